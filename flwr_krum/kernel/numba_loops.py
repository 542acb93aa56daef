"""Kernels of rounded arithmetic that numba compiles (extra ``fast``).

They read the clients' own buffers through a table of addresses, whatever their float type, and
let go of the interpreter. Each is compiled once for what it reads (``read``) and what it sums in
(``zero``), and kept on disk.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.lanes import lanes_of, loaded, no_sums, total_of, with_square

Addresses: TypeAlias = NDArray[np.uintp]
Values: TypeAlias = NDArray[Any]
Comparators: TypeAlias = NDArray[np.intp]

TILE = 4
"""Clients per side of a tile: sixteen sums stay in registers while eight rows are read."""

FLUSH = 1024
"""Columns that are summed in the kernel's own type before they are added to float64 totals."""


@intrinsic
def pointer(_: Any, address: Any, start: Any, read: Any) -> Any:
    """Return a pointer to element ``start`` of the buffer of ``read``'s type at an address."""
    kind = types.CPointer(read)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> Any:
        begin = builder.inttoptr(arguments[0], context.get_value_type(kind))
        return builder.gep(begin, [arguments[1]])

    return kind(types.uintp, types.intp, read), generate


@njit(cache=True, nogil=True)
def _tile(
    xs: Addresses,
    i: int,
    ys: Addresses,
    j: int,
    start: int,
    stop: int,
    read: Any,
    zero: Any,
    total: Float64,
) -> None:
    """Add ``||x_a - y_b||^2`` of rows i to i+3 and j to j+3, on some columns, to ``total``."""
    x0 = xs[i]
    x1 = xs[i + 1]
    x2 = xs[i + 2]
    x3 = xs[i + 3]
    y0 = ys[j]
    y1 = ys[j + 1]
    y2 = ys[j + 2]
    y3 = ys[j + 3]
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = no_sums(zero)
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = no_sums(zero)
    for k in range(start, stop, lanes_of(zero)):
        u0 = loaded(x0, k, read, zero)
        u1 = loaded(x1, k, read, zero)
        u2 = loaded(x2, k, read, zero)
        u3 = loaded(x3, k, read, zero)
        v = loaded(y0, k, read, zero)
        s00 = with_square(s00, u0, v)
        s10 = with_square(s10, u1, v)
        s20 = with_square(s20, u2, v)
        s30 = with_square(s30, u3, v)
        v = loaded(y1, k, read, zero)
        s01 = with_square(s01, u0, v)
        s11 = with_square(s11, u1, v)
        s21 = with_square(s21, u2, v)
        s31 = with_square(s31, u3, v)
        v = loaded(y2, k, read, zero)
        s02 = with_square(s02, u0, v)
        s12 = with_square(s12, u1, v)
        s22 = with_square(s22, u2, v)
        s32 = with_square(s32, u3, v)
        v = loaded(y3, k, read, zero)
        s03 = with_square(s03, u0, v)
        s13 = with_square(s13, u1, v)
        s23 = with_square(s23, u2, v)
        s33 = with_square(s33, u3, v)
    total[i, j] += total_of(s00)
    total[i, j + 1] += total_of(s01)
    total[i, j + 2] += total_of(s02)
    total[i, j + 3] += total_of(s03)
    total[i + 1, j] += total_of(s10)
    total[i + 1, j + 1] += total_of(s11)
    total[i + 1, j + 2] += total_of(s12)
    total[i + 1, j + 3] += total_of(s13)
    total[i + 2, j] += total_of(s20)
    total[i + 2, j + 1] += total_of(s21)
    total[i + 2, j + 2] += total_of(s22)
    total[i + 2, j + 3] += total_of(s23)
    total[i + 3, j] += total_of(s30)
    total[i + 3, j + 1] += total_of(s31)
    total[i + 3, j + 2] += total_of(s32)
    total[i + 3, j + 3] += total_of(s33)


@njit(cache=True, nogil=True)
def _corner(
    xs: Addresses,
    i: int,
    reference: Any,
    start: int,
    stop: int,
    read: Any,
    zero: Any,
    total: Float64,
    norms: Float64,
) -> None:
    """Add the distances of rows i to i+3 among each other and from the reference."""
    x0 = xs[i]
    x1 = xs[i + 1]
    x2 = xs[i + 2]
    x3 = xs[i + 3]
    s10 = s20 = s21 = s30 = s31 = s32 = no_sums(zero)
    r0 = r1 = r2 = r3 = no_sums(zero)
    for k in range(start, stop, lanes_of(zero)):
        u0 = loaded(x0, k, read, zero)
        u1 = loaded(x1, k, read, zero)
        u2 = loaded(x2, k, read, zero)
        u3 = loaded(x3, k, read, zero)
        v = loaded(reference, k, read, zero)
        s10 = with_square(s10, u1, u0)
        s20 = with_square(s20, u2, u0)
        s21 = with_square(s21, u2, u1)
        s30 = with_square(s30, u3, u0)
        s31 = with_square(s31, u3, u1)
        s32 = with_square(s32, u3, u2)
        r0 = with_square(r0, u0, v)
        r1 = with_square(r1, u1, v)
        r2 = with_square(r2, u2, v)
        r3 = with_square(r3, u3, v)
    total[i + 1, i] += total_of(s10)
    total[i + 2, i] += total_of(s20)
    total[i + 2, i + 1] += total_of(s21)
    total[i + 3, i] += total_of(s30)
    total[i + 3, i + 1] += total_of(s31)
    total[i + 3, i + 2] += total_of(s32)
    norms[i] += total_of(r0)
    norms[i + 1] += total_of(r1)
    norms[i + 2] += total_of(r2)
    norms[i + 3] += total_of(r3)


@njit(cache=True, nogil=True)
def _padded(xs: Addresses, start: int, stop: int, read: Any, zero: Any) -> Values:
    """Return the last columns of rows, which fill no register, with zeros behind them."""
    rows = np.full((xs.size, lanes_of(zero)), read)
    for i in range(xs.size):
        x = carray(pointer(xs[i], start, read), stop - start)
        for k in range(stop - start):
            rows[i, k] = x[k]
    return rows


@njit(cache=True, nogil=True)
def _addresses(rows: Values) -> Addresses:
    """Return where each row begins."""
    found = np.empty(len(rows), np.uintp)
    for i in range(len(rows)):
        found[i] = rows[i].ctypes.data
    return found


@njit(cache=True, nogil=True)
def _hold(rows: Values) -> None:
    """Keep rows until here: numba frees what nothing but an address points to."""


@njit(cache=True, nogil=True)
def add_all_pairs(
    xs: Addresses,
    reference: Any,
    start: int,
    stop: int,
    chunk: int,
    read: Any,
    zero: Any,
    total: Float64,
    norms: Float64,
) -> None:
    """Add squared distances of all pairs to the lower triangle of ``total`` (n, n).

    Parameters
    ----------
    xs : (n,) uintp
        Addresses of the rows; n is a multiple of TILE.
    reference : uintp
        Address of one more row, whose squared distances from all others go to ``norms`` (n,).
    start, stop, chunk : int
        Columns, taken in chunks that stay in cache; a chunk is a multiple of FLUSH.
    read, zero : scalars
        Zeros of the type of the rows, and of the type to compute in.
    """
    whole = stop - (stop - start) % lanes_of(zero)
    for first in range(start, whole, chunk):
        last = min(whole, first + chunk)
        for i in range(0, xs.size, TILE):
            for a in range(first, last, FLUSH):
                _corner(xs, i, reference, a, min(a + FLUSH, last), read, zero, total, norms)
            for j in range(0, i, TILE):
                for a in range(first, last, FLUSH):
                    _tile(xs, i, xs, j, a, min(a + FLUSH, last), read, zero, total)
    if whole < stop:
        rows = _padded(xs, whole, stop, read, zero)
        own = np.full(1, reference, np.uintp)
        row = _padded(own, whole, stop, read, zero)
        at, there, end = _addresses(rows), _addresses(row), rows.shape[1]
        for i in range(0, xs.size, TILE):
            _corner(at, i, there[0], 0, end, read, zero, total, norms)
            for j in range(0, i, TILE):
                _tile(at, i, at, j, 0, end, read, zero, total)
        _hold(rows)
        _hold(row)


@njit(cache=True, nogil=True)
def add_some_pairs(
    xs: Addresses,
    ys: Addresses,
    start: int,
    stop: int,
    chunk: int,
    read: Any,
    zero: Any,
    total: Float64,
) -> None:
    """Add squared distances between two lists of rows to ``total``; see add_all_pairs."""
    whole = stop - (stop - start) % lanes_of(zero)
    for first in range(start, whole, chunk):
        last = min(whole, first + chunk)
        for i in range(0, xs.size, TILE):
            for j in range(0, ys.size, TILE):
                for a in range(first, last, FLUSH):
                    _tile(xs, i, ys, j, a, min(a + FLUSH, last), read, zero, total)
    if whole < stop:
        rows, others = _padded(xs, whole, stop, read, zero), _padded(ys, whole, stop, read, zero)
        at, there, end = _addresses(rows), _addresses(others), rows.shape[1]
        for i in range(0, xs.size, TILE):
            for j in range(0, ys.size, TILE):
                _tile(at, i, there, j, 0, end, read, zero, total)
        _hold(rows)
        _hold(others)


@njit(cache=True, nogil=True)
def copy_rows(xs: Addresses, start: int, read: Any, block: Float64) -> None:
    """Copy columns of rows (r,) from ``start`` on to a float64 block (r, w)."""
    for i in range(xs.size):
        x = carray(pointer(xs[i], start, read), block.shape[1])
        row = block[i]
        for k in range(block.shape[1]):
            row[k] = x[k]


@njit(cache=True, nogil=True)
def add_rows(xs: Addresses, weights: Float64, start: int, read: Any, sums: Float64) -> None:
    """Add ``weights[i] * row i`` to ``sums``, in float64 and in the order of the rows.

    Without reordering: the bits are those of the same sum in NumPy.
    """
    count = sums.size
    i = 0
    while i + TILE <= xs.size:
        x0 = carray(pointer(xs[i], start, read), count)
        x1 = carray(pointer(xs[i + 1], start, read), count)
        x2 = carray(pointer(xs[i + 2], start, read), count)
        x3 = carray(pointer(xs[i + 3], start, read), count)
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for k in range(count):
            s = sums[k] + np.float64(x0[k]) * w0
            s += np.float64(x1[k]) * w1
            s += np.float64(x2[k]) * w2
            sums[k] = s + np.float64(x3[k]) * w3
        i += TILE
    while i < xs.size:
        x0 = carray(pointer(xs[i], start, read), count)
        for k in range(count):
            sums[k] += np.float64(x0[k]) * weights[i]
        i += 1


@intrinsic
def bits(_: Any, value: Any) -> Any:
    """Return the bits of a float64 as a whole number."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@njit(cache=True, nogil=True)
def add_fingerprints(
    xs: Addresses,
    start: int,
    stop: int,
    read: Any,
    factors: NDArray[np.uint64],
    salt: Any,
    sums: NDArray[np.uint64],
) -> None:
    """Add to each row's sum (r,) the bits of its numbers, each times a factor of its column.

    ``factors`` (FLUSH + 1,) are for the columns of a block; the last of them and ``salt`` make a
    block's own. 0 and -0 are the same number.
    """
    for first in range(start, stop, FLUSH):
        count = min(FLUSH, stop - first)
        block = factors[FLUSH] + salt + np.uint64(first)
        block = (block ^ (block >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        block = (block ^ (block >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        block |= np.uint64(1)
        for i in range(xs.size):
            x = carray(pointer(xs[i], first, read), count)
            total = np.uint64(0)
            for k in range(count):
                total += np.uint64(bits(np.float64(x[k]) + 0.0)) * factors[k]
            sums[i] += total * block


@njit(cache=True, nogil=True, fastmath=True)
def _sort_rows(rows: Values, comparators: Comparators, count: int) -> None:
    """Send the first ``count`` columns of the rows, which are finite, through a network."""
    for c in range(len(comparators)):
        x, y = rows[comparators[c, 0]], rows[comparators[c, 1]]
        low, high = comparators[c, 2], comparators[c, 3]
        if low and high:
            for k in range(count):
                u, v = x[k], y[k]
                x[k] = min(u, v)
                y[k] = max(u, v)
        elif low:
            for k in range(count):
                x[k] = min(x[k], y[k])
        else:
            for k in range(count):
                y[k] = max(x[k], y[k])


@njit(cache=True, nogil=True)
def fill_window_means(
    xs: Addresses,
    comparators: Comparators,
    window: tuple[int, int, int, int],
    start: int,
    rows: Values,
    out: Values,
) -> None:
    """Write the mean of a window of the n sorted values of each column to ``out``.

    Parameters
    ----------
    xs : (n,) uintp
        Addresses of the clients' rows, of the type of ``rows``.
    comparators : (c, 4) int
        A sorting network.
    window : int, int, int, int
        First and last rank, number of values, and how many are cut at each end for the centre, see
        `flwr_krum.kernel.sorting.Window`.
    start : int
        The first of the columns that go to ``out``.
    rows : (n, w)
        Room for w columns.
    """
    first, last, keep, trim = window
    n, width = rows.shape
    sums, middles = np.empty(width), np.empty(width)
    for begin in range(0, out.size, width):
        count = min(width, out.size - begin)
        for i in range(n):
            x = carray(pointer(xs[i], start + begin, rows[0, 0]), count)
            row = rows[i]
            for k in range(count):
                row[k] = x[k]
        _sort_rows(rows, comparators, count)
        if last - first == keep:
            sums[:] = 0.0
            for rank in range(first, last):
                row = rows[rank]
                for k in range(count):
                    sums[k] += row[k]
        else:
            middles[:] = 0.0
            for rank in range(trim, n - trim):
                row = rows[rank]
                for k in range(count):
                    middles[k] += row[k]
            for k in range(count):
                middle = middles[k] / (n - 2 * trim)
                low = 0
                while low + keep < n and rows[low + keep, k] - middle < middle - rows[low, k]:
                    low += 1
                total = 0.0
                for rank in range(low, low + keep):
                    total += rows[rank, k]
                sums[k] = total
        for k in range(count):
            out[begin + k] = sums[k] / keep
