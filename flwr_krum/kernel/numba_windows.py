"""Inner products of floats without any rounding, in kernels that numba compiles (extra ``fast``).

Columns go in blocks of 1024, each row's block scaled by a power of two of its own so that no number
exceeds 1. Adding ``sigma = 1.5 * 2^52 * u`` to a product rounds it to a multiple of u, and the bits
of the sum, less those of sigma, *are* that multiple: a whole number, whose sum over a block fits
into 64 bits. What a window of 51 bits leaves goes into the next one. Sums of whole numbers are the
same on any number of threads and lanes.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.numba_loops import Addresses, bits, pointer

Whole: TypeAlias = NDArray[np.int64]

COLUMNS = 1024
"""Columns of a block: as many whole numbers of 51 bits as 61 bits can add up."""

DIGIT = 48
"""Bits of a digit. The sums of a block are added to digits, which have 15 bits to spare."""

FAINTEST = 480
"""Bits below a block's largest number that its smallest may lie: products and their errors beyond
would fall below the smallest float."""

_NOTHING = -(2**30)
"""The exponent of a block of zeros."""

_FIRST, _STEP = -50, -51
"""Exponent of u in the first window, and from each to the next."""


@intrinsic
def _power(_: Any, exponent: Any) -> Any:
    """Return 2 to a power from -1022 to 1023."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        whole = ir.IntType(64)
        biased = builder.add(arguments[0], ir.Constant(whole, 1023))
        return builder.bitcast(builder.shl(biased, ir.Constant(whole, 52)), ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def _fused(_: Any, x: Any, y: Any, z: Any) -> Any:
    """Return ``x y + z``, rounded once."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


# Without fastmath: it would cancel (sigma + p) - sigma.
@njit(cache=True, nogil=True)
def _single(x: Float64, y: Float64) -> Any:
    """Return two windows of ``<x, y>`` for numbers of 24 bits, and 0 if they hold all of it."""
    s1 = 1.5 * _power(np.int64(52 + _FIRST))
    s2 = 1.5 * _power(np.int64(52 + _FIRST + _STEP))
    high = low = left = np.int64(0)
    for k in range(x.size):
        p = x[k] * y[k]
        t = s1 + p
        high += bits(t)
        r = p - (t - s1)
        v = s2 + r
        low += bits(v)
        left |= bits(r - (v - s2)) << 1  # without the sign: -0 is no remainder
    return high - x.size * bits(s1), low - x.size * bits(s2), left


@njit(cache=True, nogil=True)
def _double(x: Float64, y: Float64) -> Any:
    """Return three windows of ``<x, y>`` for numbers of 53 bits, and 0 if they hold all of it."""
    s1 = 1.5 * _power(np.int64(52 + _FIRST))
    s2 = 1.5 * _power(np.int64(52 + _FIRST + _STEP))
    s3 = 1.5 * _power(np.int64(52 + _FIRST + 2 * _STEP + 1))
    high = middle = low = left = np.int64(0)
    for k in range(x.size):
        p = x[k] * y[k]
        e = _fused(x[k], y[k], -p)
        t = s1 + p
        high += bits(t)
        r = p - (t - s1)
        v = s2 + r
        middle += bits(v)
        r = r - (v - s2)
        v = s2 + e
        middle += bits(v)
        e = e - (v - s2)
        g = r + e
        left |= bits((g - r) - e) << 1
        v = s3 + g
        low += bits(v)
        left |= bits(g - (v - s3)) << 1
    n = x.size
    return high - n * bits(s1), middle - 2 * n * bits(s2), low - n * bits(s3), left


@njit(cache=True, nogil=True)
def _put(digits: Whole, whole: int, exponent: int) -> None:
    """Add ``whole * 2^exponent`` to digits that begin at 2^0."""
    k, s = exponent // DIGIT, exponent % DIGIT
    digits[k] += (whole & ((1 << (DIGIT - s)) - 1)) << s
    whole >>= DIGIT - s
    digits[k + 1] += whole & ((1 << DIGIT) - 1)
    digits[k + 2] += whole >> DIGIT


@njit(cache=True, nogil=True)
def _put_wide(digits: Whole, x: Float64, y: Float64, exponent: int, rest: Float64) -> Any:
    """Add ``<x, y> * 2^exponent`` in as many windows as it takes; return how many."""
    for k in range(x.size):
        rest[0, k] = x[k] * y[k]
        rest[1, k] = _fused(x[k], y[k], -rest[0, k])
    u, windows = _FIRST, 0
    left = np.int64(1)
    while left != 0:
        s = 1.5 * _power(np.int64(52 + u))
        total = left = np.int64(0)
        for part in range(2):
            for k in range(x.size):
                t = s + rest[part, k]
                total += bits(t)
                r = rest[part, k] - (t - s)
                rest[part, k] = r
                left |= bits(r) << 1
        _put(digits, total - 2 * x.size * bits(s), exponent + u)
        u += _STEP
        windows += 1
    return windows


@njit(cache=True, nogil=True)
def _put_product(
    digits: Whole, x: Float64, y: Float64, exponent: int, single: bool, rest: Float64
) -> Any:
    """Add ``<x, y> * 2^exponent`` to digits; return the windows that it took."""
    if single:
        high, low, left = _single(x, y)
        if left == 0:
            _put(digits, high, exponent + _FIRST)
            _put(digits, low, exponent + _FIRST + _STEP)
            return 2
    else:
        high, middle, low, left = _double(x, y)
        if left == 0:
            _put(digits, high, exponent + _FIRST)
            _put(digits, middle, exponent + _FIRST + _STEP)
            _put(digits, low, exponent + _FIRST + 2 * _STEP + 1)
            return 4
    return 4 + 2 * _put_wide(digits, x, y, exponent, rest)


@njit(cache=True, nogil=True)
def _scaled(x: Float64) -> Any:
    """Scale numbers so that none exceeds 1; return the exponent that was taken out.

    None where the smallest lies too far below the largest.
    """
    largest, least = 0.0, np.inf
    for k in range(x.size):
        size = abs(x[k])
        largest = max(largest, size)
        least = min(least, size if size > 0.0 else np.inf)
    if largest == 0.0:
        return _NOTHING
    exponent = np.int64(math.frexp(largest)[1])
    if math.frexp(least)[1] < exponent - FAINTEST:
        return -_NOTHING
    half = -exponent // 2  # 2^-exponent itself may be no float
    first, second = _power(half), _power(-exponent - half)
    for k in range(x.size):
        x[k] = x[k] * first * second
    return exponent


@njit(cache=True, nogil=True)
def add_products(
    xs: Addresses,
    rows: NDArray[np.intp],
    start: int,
    stop: int,
    read: Any,
    single: bool,
    lowest: int,
    sums: Whole,
    unfit: NDArray[np.bool_],
) -> int:
    """Add inner products of some rows with all, on some columns, to digits.

    Parameters
    ----------
    xs : (n,) uintp
        Addresses of all rows, whose numbers are finite.
    rows : (r,) int
        Those whose products are wanted.
    start, stop : int
        Columns.
    read : scalar
        Zero of the type of the rows.
    single : bool
        Whether that is float32.
    lowest : int
        Exponent of the first digit.
    sums : (r + 1, n, k) int64
        Digits: of ``<x_rows[a], x_j>`` in ``[a, j]``, left alone where j stands in rows before a;
        of ``<x_j, x_j>`` in the last row.
    unfit : (b,) bool
        Set for the blocks that are left out, since a row's numbers lie too far apart.

    Returns
    -------
    int
        The windows that were taken, by 1024 columns.
    """
    n, r = xs.size, rows.size
    place = np.full(n, r)
    for a in range(r):
        place[rows[a]] = a
    block, rest = np.empty((n, COLUMNS)), np.empty((2, COLUMNS))
    exponents = np.empty(n, np.int64)
    windows = 0
    for b in range(unfit.size):
        first = start + b * COLUMNS
        count = min(COLUMNS, stop - first)
        for j in range(n):
            x = carray(pointer(xs[j], first, read), count)
            row = block[j, :count]
            for k in range(count):
                row[k] = x[k]
            exponents[j] = _scaled(row)
        if exponents.max() == -_NOTHING:
            unfit[b] = True
            continue
        for j in range(n):
            y = block[j, :count]
            if exponents[j] == _NOTHING:
                continue
            exponent = 2 * exponents[j] - lowest
            windows += _put_product(sums[r, j], y, y, exponent, single, rest)
            for a in range(min(r, place[j])):
                i = rows[a]
                if exponents[i] != _NOTHING:
                    exponent = exponents[i] + exponents[j] - lowest
                    x = block[i, :count]
                    windows += _put_product(sums[a, j], x, y, exponent, single, rest)
        if b % 1024 == 1023:
            carry(sums)
    carry(sums)
    return windows


@njit(cache=True, nogil=True)
def carry(sums: Whole) -> None:
    """Bring all digits but the last, which has the sign, into 0 to 2^48 - 1."""
    for a in range(sums.shape[0]):
        for j in range(sums.shape[1]):
            digits = sums[a, j]
            for k in range(digits.size - 1):
                digits[k + 1] += digits[k] >> DIGIT
                digits[k] &= (1 << DIGIT) - 1
