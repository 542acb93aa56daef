"""The way a device computes: the one place that knows NumPy, the compiled kernels and the GPU.

Each function here is one piece of arithmetic; whoever calls it need not ask who does it. What the
compiled kernels cannot read (`ClientUpdates.buffers`) goes to NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from flwr_krum.kernel import blas, exact, numpy_way, single
from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.device import (
    MOST_DIFFERENCES,
    check_device,
    is_compiled,
    is_cuda,
    numba_is_installed,
)
from flwr_krum.kernel.distances import Distances
from flwr_krum.kernel.exact import Squares
from flwr_krum.kernel.known import KnownPairs
from flwr_krum.kernel.sorting import WeightedWindow, Window
from flwr_krum.kernel.threads import MOST_THREADS
from flwr_krum.kernel.updates import BLOCK, PIECE, Buffers, ClientUpdates


def prepare(device: str) -> None:
    """Find what a device needs, before anything is asked of it.

    Raises
    ------
    ValueError
        If there is no such device, or what it needs is not installed.
    """
    check_device(device)
    if device == "cpu:numba" and not numba_is_installed():
        raise ValueError("device='cpu:numba' needs numba: pip install 'flwr-krum[fast]'")
    if is_cuda(device):
        from flwr_krum.kernel import cuda_way

        cuda_way.find(device)


def warm_up(device: str, n: int, d: int) -> None:
    """Compile the kernels that n updates of d numbers will use, or load them from disk, once.

    Seconds, and a hundred megabytes, that a server which waits for its clients does not need.
    """
    if is_compiled(device, n, d):
        from flwr_krum.kernel import numba_way

        numba_way.warm_up()


def _readable(updates: ClientUpdates) -> Buffers | None:
    """Return where the rows lie if the compiled kernels are to be used and can read them."""
    return updates.buffers if is_compiled(updates.device, updates.n, updates.d) else None


def first_distances(updates: ClientUpdates) -> Distances | None:
    """Return the clients' squared distances by a way that is faster than `gram`; None without one.

    Compiled differences, or products in float32: with bounds on the error, and most of it coarse.
    """
    if is_cuda(updates.device):
        return None
    buffers = _readable(updates) if updates.n <= MOST_DIFFERENCES else None
    if buffers is None:
        return single.squared_distances(updates)
    from flwr_krum.kernel import numba_way

    return numba_way.squared_distances(updates, buffers)


def known_pairs(updates: ClientUpdates) -> KnownPairs | None:
    """Return the distances of some models for when others come; None where that is of no use.

    NumPy's and a GPU's are products of all models at once: of some alone they have other digits.
    """
    buffers = _readable(updates)
    if buffers is None:
        return None
    from flwr_krum.kernel import numba_way

    return numba_way.known_pairs(updates, buffers)


def refined(updates: ClientUpdates, distances: Distances, clients: Indices) -> Distances | None:
    """Return first distances with those of some clients from differences in float64.

    None where another way is as fast.
    """
    buffers = _readable(updates)
    if buffers is None:
        return None
    from flwr_krum.kernel import numba_way

    return numba_way.refined(updates, buffers, distances, clients)


def fingerprints(updates: ClientUpdates, clients: Indices) -> dict[int, int]:
    """Return numbers that are equal for clients of equal models, and hardly ever for others.

    Nothing where comparing the models themselves is as quick.
    """
    buffers = _readable(updates)
    if buffers is None or len(clients) < 3:
        return {}
    from flwr_krum.kernel import numba_exact

    return numba_exact.fingerprints(updates, buffers, clients)


def some_differences(updates: ClientUpdates, rows: Indices) -> Float64 | None:
    """Return squared distances of some rows from all in float64; None where NumPy is to do it.

    Rows are clients, and the server's after them.
    """
    buffers = _readable(updates)
    if buffers is None:
        return None
    from flwr_krum.kernel import numba_way

    return numba_way.some_differences(updates, buffers, rows)


def exact_squares(updates: ClientUpdates, rows: Sequence[int]) -> Squares | None:
    """Return the exact squared distances of some clients; None where that would take too long."""
    buffers = _readable(updates)
    if buffers is None:
        return exact.exact_squares(updates, rows)
    from flwr_krum.kernel import numba_exact

    return numba_exact.exact_squares(updates, buffers, rows)


def gram(updates: ClientUpdates, scale: float = 1.0) -> Float64:
    """Return the Gram matrix of ``scale *`` (row - global model), server rows last, in float64."""
    if is_cuda(updates.device):
        from flwr_krum.kernel import cuda_way

        return cuda_way.gram(updates, scale)
    buffers = _readable(updates)
    if buffers is None:
        return blas.gram(updates, scale)
    from flwr_krum.kernel import numba_way

    return blas.gram(updates, scale, numba_way.offset_reader(updates, buffers))


def longest_sum(device: str) -> int:
    """Return how many products `gram` adds up in one go at most."""
    return PIECE if is_cuda(device) else BLOCK


Sum: TypeAlias = Callable[[Float64, int, int, int], Float64]
"""Maps weights, a piece, its first and last column to the weighted sum of the chosen rows."""


class Adder(NamedTuple):
    """How chosen rows are added up: in strips of ``width``, on at most ``most`` threads."""

    add: Sum
    width: int
    most: int


def adder(updates: ClientUpdates, rows: Indices) -> Adder:
    """Return the way to add up some rows: clients, server rows, the global model last."""
    flats = [updates.flat_rows[i] for i in rows]
    if is_cuda(updates.device):
        from flwr_krum.kernel import cuda_way

        return Adder(partial(cuda_way.weighted_sum, flats, updates.device), PIECE, 1)
    buffers = _readable(updates)
    if buffers is not None:
        from flwr_krum.kernel import numba_way

        return Adder(partial(numba_way.weighted_sum, buffers.of(rows)), BLOCK, MOST_THREADS)
    # NumPy's calls are so short here that threads would wait for each other.
    return Adder(partial(numpy_way.weighted_sum, flats), BLOCK, 1)


Fill: TypeAlias = Callable[[int, int, int, Array], None]
"""Writes the window means of columns first to last of a piece."""


class Filler(NamedTuple):
    """How window means are written, and on how many threads at most."""

    fill: Fill
    most: int


def window_of_rows(
    updates: ClientUpdates, rows: Indices, window: Window | WeightedWindow
) -> Filler:
    """Return the way to take window means over some rows as they came."""
    buffers = _readable(updates)
    if buffers is not None and isinstance(window, Window):
        from flwr_krum.kernel import numba_way

        return Filler(numba_way.window_filler(buffers.of(rows), window), MOST_THREADS)
    flats = [updates.flat_rows[i] for i in rows]

    def read(piece: int, first: int, last: int) -> Sequence[Array]:
        return [flat[piece][first:last] for flat in flats]

    return Filler(_in_blocks(read, window, len(flats)), _most_threads(len(flats)))


def window_of_mixtures(
    updates: ClientUpdates, mix: Float64, window: Window | WeightedWindow
) -> Filler:
    """Return the way to take window means over mixtures of all rows.

    Parameters
    ----------
    mix : (k, r)
        A weight for each of `ClientUpdates.flat_rows`.
    """
    used = np.flatnonzero(mix.any(axis=0))
    shares = np.ascontiguousarray(mix[:, used])
    buffers = _readable(updates)
    if buffers is not None and isinstance(window, Window):
        from flwr_krum.kernel import numba_way

        return Filler(numba_way.mixture_filler(buffers, used, shares, window), MOST_THREADS)
    flats = [updates.flat_rows[i] for i in used]

    def read(piece: int, first: int, last: int) -> Sequence[Array]:
        block = np.empty((len(flats), last - first))
        for row, flat in zip(block, flats, strict=True):
            row[:] = flat[piece][first:last]
        return list(shares @ block)

    return Filler(_in_blocks(read, window, max(mix.shape)), _most_threads(len(mix)))


def _most_threads(k: int) -> int:
    return 1 if numpy_way.sorts_alone(k) else MOST_THREADS


def _in_blocks(
    read: Callable[[int, int, int], Sequence[Array]], window: Window | WeightedWindow, rows: int
) -> Fill:
    width = numpy_way.block_width(rows)
    if isinstance(window, Window):
        mean = partial(numpy_way.window_mean, window=window)
    else:
        mean = partial(numpy_way.weighted_window_mean, window=window)

    def fill(piece: int, first: int, last: int, out: Array) -> None:
        with np.errstate(over="ignore"):  # a mean that its dtype cannot hold
            for start in range(first, last, width):
                stop = min(last, start + width)
                out[start - first : stop - first] = mean(read(piece, start, stop))

    return fill
