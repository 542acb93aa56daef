"""bfloat16, which NumPy carries without knowing it: two bytes, the upper half of a float32.

``ml_dtypes`` arrays travel like this through ``numpy.save`` and Flower's ``Array``. What they hold
is computed with as float32, which has every bfloat16, and rounded once on the way out.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.stored import Layer, StoredArray

BFLOAT16 = np.dtype("V2")
"""The dtype of bfloat16 numbers as NumPy loads them."""

_LARGEST = 0x7F7F


@overload
def widened(array: Array) -> Array: ...
@overload
def widened(array: StoredArray) -> StoredArray: ...
def widened(array: Layer) -> Layer:
    """Return bfloat16 numbers as float32, and any other array as it is."""
    if array.dtype.kind != "V":
        return array
    if isinstance(array, StoredArray):
        return array.mapped(widened, np.dtype(np.float32))
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def narrowed(array: Array) -> Array:
    """Return finite float32 numbers as the nearest finite bfloat16, ties to even."""
    bits = array.view(np.uint32)
    upper = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)
    size = np.minimum(upper & 0x7FFF, _LARGEST)  # what would round to infinity does not
    return np.asarray((upper & 0x8000) | size).astype(np.uint16).view(BFLOAT16)
