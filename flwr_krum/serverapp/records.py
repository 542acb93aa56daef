"""Models as Flower's ArrayRecords and back, through the headers that `flwr_krum.wire` keeps."""

from __future__ import annotations

from collections.abc import Mapping

import flwr.app

from flwr_krum.intake import SERIALIZATION
from flwr_krum.updates import Array
from flwr_krum.wire import decode, encode


def to_record(model: Mapping[str, Array]) -> flwr.app.ArrayRecord:
    """Return the arrays as an ArrayRecord, in their order; its bytes are those of Flower's own."""
    return record_of({key: encode(array) for key, array in model.items()})


def record_of(encoded: Mapping[str, bytes]) -> flwr.app.ArrayRecord:
    """Return npy bytes by key as an ArrayRecord."""
    views = {key: decode(data) for key, data in encoded.items()}
    return flwr.app.ArrayRecord(
        {
            key: flwr.app.Array(str(view.dtype), view.shape, SERIALIZATION, encoded[key])
            for key, view in views.items()
        }
    )


def from_record(record: flwr.app.ArrayRecord) -> dict[str, Array]:
    """View the arrays of a record by key; they are read-only.

    Raises
    ------
    UndecodableError
        If an array is not one of float (16 to 64 bits), integer or bool numbers.
    """
    return {key: decode(array.data) for key, array in record.items()}
