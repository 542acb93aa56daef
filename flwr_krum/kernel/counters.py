"""The lower median of integers and booleans, one block of numbers at a time.

No mean is taken of what counts or selects: the lower median is a value that a client sent, between
the smallest and the largest of those of any majority.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.sorting import sort_columns
from flwr_krum.kernel.stored import Layer
from flwr_krum.kernel.updates import BLOCK

MOST_IN_NETWORK = 64
"""Clients up to which a network of NumPy calls beats a partition."""


def lower_median(layers: Sequence[Layer], dtype: np.dtype[Any]) -> Array:
    """Return the element-wise lower median of n arrays of one shape, in ``dtype``.

    Extra memory: n blocks of ``BLOCK`` numbers, whatever the size of the layer.
    """
    flats = [layer.ravel() for layer in layers]
    median = np.empty(flats[0].size, dtype)
    find = _by_network if len(flats) <= MOST_IN_NETWORK else _by_partition
    for start in range(0, median.size, BLOCK):
        part = slice(start, start + BLOCK)
        median[part] = find([flat[part].astype(dtype) for flat in flats])
    return median.reshape(layers[0].shape)


def _by_network(rows: list[Array]) -> Array:
    middle = (len(rows) - 1) // 2
    sort_columns(rows, range(middle, middle + 1))
    return rows[middle]


def _by_partition(rows: list[Array]) -> Array:
    middle = (len(rows) - 1) // 2
    block = np.stack(rows, axis=1)
    block.partition(middle, axis=1)
    return block[:, middle]
