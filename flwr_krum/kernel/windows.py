"""Order statistics of the clients' values, one coordinate at a time.

Every function here is the mean of a window of the n sorted values: the middle one or two (median),
all but some at each end (trimmed mean), those closest to the median (mean around the median). Up
to 40 clients go through a sorting network in rows, more are sorted in a transposed block.

Sources: Yin, Chen, Kannan, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018 (median, trimmed mean); Xie, Koyejo, Gupta, "Generalized
Byzantine-tolerant SGD", 2018 (mean around the median).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.combine import with_counters
from flwr_krum.kernel.device import is_compiled
from flwr_krum.kernel.sorting import Window, network
from flwr_krum.kernel.threads import MOST_THREADS, spread
from flwr_krum.kernel.updates import BLOCK, PIECE, ClientUpdates

MOST_IN_NETWORK = 40
"""Clients up to which a network of NumPy calls beats sorting."""

_MOST_IN_BLOCK = 2**20
"""Numbers in a block that is sorted."""


def median(updates: ClientUpdates) -> tuple[Array, ...]:
    """Return the coordinate-wise median of n models, the mean of the middle two if n is even.

    Parameters
    ----------
    updates : ClientUpdates
        Finite updates.

    Returns
    -------
    layers, in their own dtypes; counters take the lower median
    """
    return _mean_of(updates, Window((updates.n - 1) // 2, updates.n // 2 + 1, 2 - updates.n % 2))


def trimmed_mean(updates: ClientUpdates, trim: int) -> tuple[Array, ...]:
    """Return the coordinate-wise mean without the ``trim`` smallest and largest values.

    Raises
    ------
    ValueError
        Unless ``0 <= 2 trim < n``.
    """
    n = updates.n
    if not 0 <= 2 * trim < n:
        raise ValueError(f"trim must be from 0 to {(n - 1) // 2} for n={n}, got {trim}")
    return _mean_of(updates, Window(trim, n - trim, n - 2 * trim))


def mean_around_median(updates: ClientUpdates, keep: int) -> tuple[Array, ...]:
    """Return the coordinate-wise mean of the ``keep`` values closest to the median.

    Raises
    ------
    ValueError
        Unless ``1 <= keep <= n``.
    """
    if not 1 <= keep <= updates.n:
        raise ValueError(f"keep must be from 1 to n={updates.n}, got {keep}")
    return _mean_of(updates, Window(0, updates.n, keep))


def _mean_of(updates: ClientUpdates, window: Window) -> tuple[Array, ...]:
    floats, pieces = updates.empty_result()
    fill, most = _filler(updates, window)

    def work(start: int) -> None:
        for piece, first, last in updates.segments(start, min(updates.d, start + PIECE)):
            fill(piece, first, last, pieces[piece][first:last])

    for _ in spread(work, range(0, updates.d, PIECE), most):
        pass
    return with_counters(updates, floats)


Filler = Callable[[int, int, int, Array], None]
"""Writes the means of columns first to last of a piece."""


def _filler(updates: ClientUpdates, window: Window) -> tuple[Filler, int]:
    """Return the way to compute, and on how many threads it pays."""
    if is_compiled(updates.device, updates.n, updates.d) and updates.buffers is not None:
        from flwr_krum.kernel import numba_way

        return numba_way.window_filler(updates.buffers, window), MOST_THREADS
    # A network is many calls so short that threads would wait for each other.
    networked = updates.n <= MOST_IN_NETWORK
    sort, most = (_sorted_by_network, 1) if networked else (_sorted_by_block, MOST_THREADS)
    width = min(BLOCK, max(256, _MOST_IN_BLOCK // updates.n))

    def fill(piece: int, first: int, last: int, out: Array) -> None:
        for start in range(first, last, width):
            stop = min(last, start + width)
            values = [flat[piece][start:stop] for flat in updates.flat]
            with np.errstate(over="ignore"):  # a mean of float64 or one that its dtype cannot hold
                out[start - first : stop - first] = _window_mean(sort(values, window), window)

    return fill, most


def _sorted_by_network(values: list[Array], window: Window) -> dict[int, Array]:
    """Return the values of the window's ranks by rank."""
    dtype = np.result_type(np.float32, *values)
    rows = [value.astype(dtype) for value in values]
    spare = np.empty_like(rows[0])
    for first, second, low, high in network(len(rows), window.ranks):
        a, b = rows[first], rows[second]
        if low and high:
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            rows[first], spare = spare, a
        elif low:
            np.minimum(a, b, out=a)
        else:
            np.maximum(a, b, out=b)
    return {rank: rows[rank] for rank in window.ranks}


def _sorted_by_block(values: list[Array], window: Window) -> dict[int, Array]:
    block = np.empty((values[0].size, len(values)), np.result_type(np.float32, *values))
    for i, value in enumerate(values):
        block[:, i] = value
    block.sort(axis=1)
    return {rank: block[:, rank] for rank in window.ranks}


def _window_mean(ranked: dict[int, Array], window: Window) -> Float64:
    total = np.zeros(ranked[window.first].size)
    if window.last - window.first == window.keep:
        for rank in window.ranks:
            total += ranked[rank]
        return total / window.keep
    n = window.last
    middle = (ranked[(n - 1) // 2].astype(np.float64) + ranked[n // 2]) / 2.0
    # The window moves up while the value above it is closer than the lowest in it: true for the
    # first few places, then false for the others.
    begin = np.zeros(total.size, dtype=np.intp)
    for low in range(n - window.keep):
        begin += ranked[low + window.keep] - middle < middle - ranked[low]
    for rank in window.ranks:
        total += np.where((begin <= rank) & (rank < begin + window.keep), ranked[rank], 0.0)
    return total / window.keep
