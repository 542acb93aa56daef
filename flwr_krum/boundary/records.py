"""Models as Flower's ArrayRecords and back, through the headers that `boundary.npy` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import flwr.app
import numpy as np

from flwr_krum.boundary.bfloat16 import BFLOAT16
from flwr_krum.boundary.npy import SERIALIZATION, decode, encode
from flwr_krum.kernel.arrays import Array


def to_record(model: Mapping[str, Array]) -> flwr.app.ArrayRecord:
    """Return the arrays as an ArrayRecord, in their order; its bytes are those of Flower's own."""
    return record_of({key: encode(array) for key, array in model.items()})


def record_of(encoded: Mapping[str, bytes]) -> flwr.app.ArrayRecord:
    """Return npy bytes by key as an ArrayRecord."""
    record = flwr.app.ArrayRecord()
    for key, data in encoded.items():  # made from a dictionary, a record would copy every array
        view = decode(data)
        record[key] = flwr.app.Array(_name_of(view.dtype), view.shape, SERIALIZATION, data)
    return record


def from_record(record: flwr.app.ArrayRecord) -> dict[str, Array]:
    """View the arrays of a record by key; they are read-only.

    Raises
    ------
    UndecodableError
        If an array is not one of float (16 to 64 bits), integer or bool numbers.
    """
    return {key: decode(array.data) for key, array in record.items()}


@lru_cache  # numpy makes the name up anew each time, in longer than it takes to copy a small layer
def _name_of(dtype: np.dtype[Any]) -> str:
    return "bfloat16" if dtype == BFLOAT16 else str(dtype)
