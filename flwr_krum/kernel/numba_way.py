"""Squared distances by direct differences, in compiled kernels (extra ``fast``).

Two passes at most. The first computes in float32 what is float32, with a bound on its error that
holds for every input; the second computes in float64 the rows of those clients whose place in a
ranking the bound leaves open. A difference of two updates does not depend on what both were
centred on, so that nothing cancels.

Source of the bounds: Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel import numba_exact, numba_loops
from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.distances import SINGLE_TINY, SINGLE_UNIT, TINY, UNIT, Distances
from flwr_krum.kernel.known import KnownPairs
from flwr_krum.kernel.lanes import WIDTH
from flwr_krum.kernel.sorting import Window, network
from flwr_krum.kernel.threads import MOST_THREADS, spread
from flwr_krum.kernel.updates import PIECE, Buffers, ClientUpdates, Read

_IN_FIRST_CACHE = 24 * 1024
"""Bytes of all clients' columns that go through a sorting network together."""

_IN_CACHE = 2**19
"""Bytes of all clients' chunks of columns together: they are read many times over."""


def squared_distances(updates: ClientUpdates, buffers: Buffers) -> Distances | None:
    """Return all squared distances, float32 layers in float32; None where a float64 overflows.

    ``gram`` follows from the distances among the clients and from the global model; it is good for
    estimates, not for comparisons.
    """
    n = updates.n
    total, norms = _all_pairs(updates, buffers)
    if _is_out_of_range(total, buffers):
        return None
    d = updates.d
    single = any(dtype.itemsize == 4 for dtype in buffers.dtypes)
    unit, tiny = (SINGLE_UNIT, SINGLE_TINY) if single else (UNIT, TINY)
    relative = _additions(single) * unit + _sums(d) * UNIT
    with np.errstate(invalid="ignore", over="ignore"):
        gram = (norms[:, None] + norms[None, :] - total) / 2.0
        error = relative * total + 4.0 * d * tiny
    np.fill_diagonal(gram, norms)
    np.fill_diagonal(error, 0.0)
    finite = np.ones(n, dtype=bool)
    first = Distances(total, error, finite, gram, np.inf, coarse=single)
    beyond = ~np.isfinite(total)
    if not beyond.any():
        return first
    # A client far from all makes all rows infinite; its own row is enough, if it is among few.
    rows = np.flatnonzero(beyond.sum(axis=1) > n // 2)
    beyond[rows] = beyond[:, rows] = False
    rows = np.union1d(rows, np.flatnonzero(beyond.any(axis=1)))
    return refined(updates, buffers, first, rows) if rows.size else first


def refined(
    updates: ClientUpdates, buffers: Buffers, distances: Distances, rows: Indices
) -> Distances:
    """Return the distances with those of some clients computed again, in float64."""
    total = _some_pairs(updates, buffers, rows)
    squared, error = distances.squared.copy(), distances.error.copy()
    finite = distances.finite.copy()
    own = np.arange(rows.size), rows
    finite[rows] = np.isfinite(total[own])  # Inf - Inf is none
    total[own] = 0.0
    total[~np.isfinite(total)] = np.inf
    squared[rows], squared[:, rows] = total, total.T
    bound = (_additions(single=False) + _sums(updates.d)) * UNIT * total + 4.0 * updates.d * TINY
    bound[~np.isfinite(total)] = 0.0
    bound[own] = 0.0
    error[rows], error[:, rows] = bound, bound.T
    return replace(distances, squared=squared, error=error, finite=finite)


def some_differences(updates: ClientUpdates, buffers: Buffers, rows: Indices) -> Float64:
    """Return squared distances of some rows from all, server rows included, in float64."""
    every = buffers.of(np.arange(updates.rows))
    return _some_pairs(updates, every, rows)


def weighted_sum(buffers: Buffers, weights: Float64, piece: int, first: int, last: int) -> Float64:
    """Return ``sum_i w_i V_i`` of some columns of a piece, with the bits that NumPy would give."""
    sums = np.zeros(last - first)
    found = buffers.at(piece, first, last)
    numba_loops.add_rows(found.clients, weights, first, buffers.dtypes[piece].type(0), sums)
    return sums


def offset_reader(updates: ClientUpdates, buffers: Buffers) -> Read:
    """Return what does the work of ``updates.read_offsets``."""
    every = buffers.of(np.arange(updates.rows))

    def read(start: int, stop: int, target: Float64) -> Float64:
        offsets = target[: updates.rows, : stop - start]
        begin = 0
        for piece, first, last in updates.segments(start, stop):
            found, zero = every.at(piece, first, last), buffers.dtypes[piece].type(0)
            part = offsets[:, begin : begin + last - first]
            numba_loops.copy_rows(found.clients, first, zero, part)
            if updates.flat_reference is not None:
                part -= updates.flat_reference[piece][first:last].astype(np.float64)
            begin += last - first
        return offsets

    return read


def mixture_filler(
    buffers: Buffers, rows: Indices, shares: Float64, window: Window
) -> Callable[[int, int, int, Array], None]:
    """Return a function that writes window means over mixtures of some rows.

    Parameters
    ----------
    shares : (k, len(rows))
    """
    comparators, places = _plan(len(shares), window)
    used = buffers.of(rows)
    width = max(64, _IN_CACHE // (8 * max(shares.shape)) // 64 * 64)

    def fill(piece: int, first: int, last: int, out: Array) -> None:
        zero = buffers.dtypes[piece].type(0)
        found = used.at(piece, first, last)
        block, mixed = np.zeros((len(rows), width)), np.empty((len(shares), width))
        addresses = mixed.ctypes.data + mixed.strides[0] * np.arange(len(shares), dtype=np.uintp)
        room = np.empty((len(shares), _room(len(shares), 8)))
        for start in range(first, last, width):
            stop = min(last, start + width)
            numba_loops.copy_rows(found.clients, start, zero, block[:, : stop - start])
            np.matmul(shares, block, out=mixed)
            means = out[start - first : stop - first]
            numba_loops.fill_window_means(addresses, comparators, places, 0, room, means)

    return fill


def window_filler(buffers: Buffers, window: Window) -> Callable[[int, int, int, Array], None]:
    """Return a function that writes window means of columns first to last of a piece."""
    n = buffers.clients.shape[1]
    comparators, places = _plan(n, window)

    def fill(piece: int, first: int, last: int, out: Array) -> None:
        dtype = buffers.dtypes[piece]
        rows = np.empty((n, _room(n, dtype.itemsize)), dtype)
        found = buffers.at(piece, first, last)
        numba_loops.fill_window_means(found.clients, comparators, places, first, rows, out)

    return fill


def _plan(k: int, window: Window) -> tuple[NDArray[np.intp], tuple[int, int, int, int]]:
    """Return the comparators and the places of a window of k sorted values."""
    comparators = np.array(network(k, window.ranks), dtype=np.intp).reshape(-1, 4)
    return comparators, (window.first, window.last, window.keep, window.centre.start)


def _room(k: int, itemsize: int) -> int:
    """Return how many columns of k rows are sorted at a time."""
    return max(64, _IN_FIRST_CACHE // (k * itemsize) // 64 * 64)


@cache
def warm_up() -> None:
    """Compile the kernels, or load them from disk: seconds that belong before the first round."""
    for dtype in (np.float32, np.float64):
        rows = [np.ones(8, dtype) for _ in range(numba_loops.TILE)]
        updates = ClientUpdates.from_layers([[row] for row in rows])
        buffers = updates.buffers
        assert buffers is not None  # native, aligned, one dtype
        _all_pairs(updates, buffers)
        _some_pairs(updates, buffers, np.arange(1))
        numba_exact.exact_squares(updates, buffers, [0])
        numba_exact.fingerprints(updates, buffers, np.arange(1))
        weighted_sum(buffers, np.ones(len(rows)), 0, 0, 8)
        window = Window(0, len(rows), 1)
        window_filler(buffers, window)(0, 0, 8, np.empty(8, dtype))
        mixture_filler(buffers, np.arange(1), np.ones((len(rows), 1)), window)(
            0, 0, 8, np.empty(8, dtype)
        )


def _additions(single: bool) -> int:
    """Return a bound on the roundings in one kernel's sum of up to FLUSH squares.

    In float64 it is the number of terms. In float32 that bound would be wide: a chain of additions
    is as long as there are registers full of columns, and then come the halves of a register.
    """
    chain = numba_loops.FLUSH
    if single:
        lanes = WIDTH // np.dtype(np.float32).itemsize
        chain = numba_loops.FLUSH // lanes + lanes.bit_length()
    # One more each for the difference (twice, it is squared), the square and the total.
    return chain + 4


def _sums(d: int) -> int:
    """Return how many float64 additions join the kernels' sums to one."""
    return PIECE // numba_loops.FLUSH + -(-d // PIECE) + 4


def _is_out_of_range(total: Float64, buffers: Buffers) -> bool:
    # Squares of float32 always fit into float64.
    if all(dtype.itemsize == 4 for dtype in buffers.dtypes):
        return False
    # What overflows is infinitely far, and what underflows lies within the bound on the error.
    fits = np.isfinite(total).sum(axis=1) > len(total) // 2
    between = total[np.ix_(fits, fits)]
    largest = between[np.isfinite(between)].max(initial=0.0)
    return len(total) > 1 and (fits.sum() <= len(total) // 2 or not 1e-200 < largest < 1e300)


def known_pairs(updates: ClientUpdates, buffers: Buffers) -> KnownPairs | None:
    """Return the distances of models that all lie in memory, for when others come; on one thread.

    None where a model lies elsewhere.
    """
    if updates.flat_reference is None or buffers.stored:
        return None
    squared, norms = _all_pairs(updates, buffers, most=1)
    return KnownPairs(updates.flat, updates.flat_reference, squared, norms)


def _all_pairs(
    updates: ClientUpdates, buffers: Buffers, most: int = MOST_THREADS
) -> tuple[Float64, Float64]:
    """Return all squared distances, and those from the reference.

    Those of pairs that are known are not worked out again.
    """
    n, known = updates.n, updates.known
    squared, norms = np.zeros((n, n)), np.zeros(n)
    old = fresh = np.arange(n)
    if known is None:
        old = old[:0]
    else:
        place = known.among(buffers.clients, buffers.reference)
        old, fresh = np.flatnonzero(place >= 0), np.flatnonzero(place < 0)
        squared[np.ix_(old, old)] = known.squared[np.ix_(place[old], place[old])]
        norms[old] = known.norms[place[old]]
    if fresh.size:
        among, beside, norms[fresh] = _fresh_pairs(updates, buffers, fresh, old, most)
        squared[np.ix_(fresh, fresh)] = among
        squared[np.ix_(fresh, old)], squared[np.ix_(old, fresh)] = beside, beside.T
    return squared, norms


def _fresh_pairs(
    updates: ClientUpdates, buffers: Buffers, fresh: Indices, old: Indices, most: int
) -> tuple[Float64, Float64, Float64]:
    """Return the distances of fresh clients: from each other, from old ones, from the reference."""
    own = _padded(buffers.order[fresh])
    others = _padded(buffers.order[old]) if old.size else own[:0]
    both = buffers.of(np.concatenate([own, others]))
    size, rows = own.size, both.order.size

    def parts(sums: Float64) -> tuple[Float64, Float64, Float64]:
        near, far, norms = np.split(sums, [size * size, size * rows])
        return near.reshape(size, size), far.reshape(size, rows - size), norms

    def add(piece: int, first: int, last: int, sums: Float64) -> None:
        zero = buffers.dtypes[piece].type(0)
        chunk = _chunk(rows, zero.itemsize)
        found = both.at(piece, first, last)
        xs, ys = found.clients[:size], found.clients[size:]
        near, far, norms = parts(sums)
        reference = buffers.reference[piece]
        numba_loops.add_all_pairs(xs, reference, first, last, chunk, zero, zero, near, norms)
        if ys.size:
            numba_loops.add_some_pairs(xs, ys, first, last, chunk, zero, zero, far)

    near, far, norms = parts(_sum_over_pieces(updates, (size * (rows + 1),), add, most))
    among, k = near + near.T, fresh.size
    return among[:k, :k], far[:k, : old.size], norms[:k]


def _some_pairs(updates: ClientUpdates, buffers: Buffers, rows: Indices) -> Float64:
    """Return the squared distances of some clients from all, computed in float64."""
    some, every = _padded(buffers.order[rows]), _padded(buffers.order)
    both = buffers.of(np.concatenate([some, every]))

    def add(piece: int, first: int, last: int, sums: Float64) -> None:
        read = buffers.dtypes[piece].type(0)
        chunk = _chunk(both.order.size, read.itemsize)
        found = both.at(piece, first, last)
        xs, ys = found.clients[: some.size], found.clients[some.size :]
        numba_loops.add_some_pairs(xs, ys, first, last, chunk, read, np.float64(0), sums)

    sums = _sum_over_pieces(updates, (some.size, every.size), add)
    return sums[: rows.size, : buffers.order.size].copy()


def _sum_over_pieces(
    updates: ClientUpdates,
    shape: tuple[int, ...],
    add: Callable[[int, int, int, Float64], None],
    most: int = MOST_THREADS,
) -> Float64:
    def work(start: int) -> Float64:
        sums = np.zeros(shape)
        for piece, first, last in updates.segments(start, min(updates.d, start + PIECE)):
            add(piece, first, last, sums)
        return sums

    total = np.zeros(shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in spread(work, range(0, updates.d, PIECE), most):
            total += part
    return total


def _padded(rows: Indices) -> Indices:
    """Repeat the last row until the tiles are full; nobody looks at what comes of it."""
    n = rows.size
    return rows[np.minimum(np.arange(n + -n % numba_loops.TILE), n - 1)]


def _chunk(rows: int, itemsize: int) -> int:
    whole = _IN_CACHE // (rows * itemsize) // numba_loops.FLUSH * numba_loops.FLUSH
    return max(numba_loops.FLUSH, whole)
