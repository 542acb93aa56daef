"""Combination in NumPy: what every device can fall back on.

Up to 40 clients go through a sorting network in rows, more are sorted in a transposed block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.shares import SLIVER, taken
from flwr_krum.kernel.sorting import WeightedWindow, Window, sort_columns
from flwr_krum.kernel.stored import Layer
from flwr_krum.kernel.updates import BLOCK

MOST_IN_NETWORK = 40
"""Clients up to which a network of NumPy calls beats sorting."""

_MOST_SORTED = 2**20
"""Numbers in a block that is sorted."""

Rows: TypeAlias = Sequence[Array]
"""The same columns of k rows."""


def weighted_sum(
    flats: Sequence[Sequence[Layer]], weights: Float64, piece: int, first: int, last: int
) -> Float64:
    """Return ``sum_i w_i V_i`` of some columns of a piece, in float64 and in the rows' order."""
    total = np.zeros(last - first)
    for flat, weight in zip(flats, weights, strict=True):
        part = flat[piece][first:last]
        np.add(total, part if weight == 1.0 else part.astype(np.float64) * weight, out=total)
    return total


def sorts_alone(k: int) -> bool:
    """Say whether k rows are sorted by calls so short that threads would wait for each other."""
    return k <= MOST_IN_NETWORK


def block_width(k: int) -> int:
    """Return how many columns of k rows are sorted at a time."""
    return min(BLOCK, max(256, _MOST_SORTED // k))


def window_mean(rows: Rows, window: Window) -> Float64:
    """Return the mean of a window of the sorted values of each column."""
    sort: Callable[[Rows, Window], dict[int, Array]]
    sort = _sorted_by_network if sorts_alone(len(rows)) else _sorted_by_block
    with np.errstate(over="ignore"):
        return _mean_of_ranks(sort(rows, window), window)


def weighted_window_mean(rows: Rows, window: WeightedWindow) -> Float64:
    """Return the mean of what lies in a window of the sorted shares of each column."""
    block = np.stack([row.astype(np.float64) for row in rows])
    order = np.argsort(block, axis=0, kind="stable")
    values = np.take_along_axis(block, order, axis=0)
    shares = np.array(window.shares)[order]
    if window.cut == 0.5:
        return _at_half(values, np.cumsum(shares, axis=0))
    take = taken(shares, window.cut, 1.0 - window.cut)
    # Added up in order, whatever the width of the block.
    mean: Float64 = np.cumsum(values * take, axis=0)[-1]
    return mean


def _at_half(values: Float64, above: Float64) -> Float64:
    """Return the sorted values at which the sum of shares passes 1/2, of two the mean."""
    low = (above < 0.5 - SLIVER).sum(axis=0)
    high = (above <= 0.5 + SLIVER).sum(axis=0)
    both = np.take_along_axis(values, np.stack([low, high]), axis=0)
    middle: Float64 = both[0] / 2.0 + both[1] / 2.0
    return middle


def _sorted_by_network(values: Rows, window: Window) -> dict[int, Array]:
    """Return the values of the window's ranks by rank."""
    dtype = np.result_type(np.float32, *values)
    rows = [value.astype(dtype) for value in values]
    sort_columns(rows, window.ranks)
    return {rank: rows[rank] for rank in window.ranks}


def _sorted_by_block(values: Rows, window: Window) -> dict[int, Array]:
    block = np.empty((values[0].size, len(values)), np.result_type(np.float32, *values))
    for i, value in enumerate(values):
        block[:, i] = value
    block.sort(axis=1)
    return {rank: block[:, rank] for rank in window.ranks}


def _mean_of_ranks(ranked: dict[int, Array], window: Window) -> Float64:
    total = np.zeros(ranked[window.first].size)
    if window.last - window.first == window.keep:
        for rank in window.ranks:
            total += ranked[rank]
        return total / window.keep
    n = window.last
    middle = np.zeros(total.size)
    for rank in window.centre:
        middle += ranked[rank]
    middle /= len(window.centre)
    # The window moves up while the value above it is closer than the lowest in it: true for the
    # first few places, then false for the others.
    begin = np.zeros(total.size, dtype=np.intp)
    for low in range(n - window.keep):
        begin += ranked[low + window.keep] - middle < middle - ranked[low]
    for rank in window.ranks:
        total += np.where((begin <= rank) & (rank < begin + window.keep), ranked[rank], 0.0)
    return total / window.keep
