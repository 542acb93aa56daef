"""The types of arrays that every room names, and whether their numbers are finite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.stored import Layer, StoredArray

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]


def are_finite(arrays: Iterable[Layer]) -> bool:
    """Say whether arrays of floats hold neither NaN nor Inf; one pass, no memory."""
    # A sum of squares is finite only if all terms are; one that overflows proves nothing.
    suspects = []
    with np.errstate(over="ignore", invalid="ignore"):
        for array in arrays:
            if isinstance(array, StoredArray):
                if not (array.is_finite or all(are_finite([part]) for part in array.blocks())):
                    return False
                continue
            flat = array.ravel(order="K")
            if flat.dtype.itemsize < 4 or not math.isfinite(flat.dot(flat)):
                suspects.append(flat)
    return all(math.isfinite(x.min()) and math.isfinite(x.max()) for x in suspects if x.size)
