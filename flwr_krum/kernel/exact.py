"""Squared distances without any rounding, for the few comparisons that floats leave open.

A difference, a square and a product of floats are sums of floats exactly (Knuth, Dekker); a sum
of floats is exact when it is kept by exponent in whole numbers. The result is an integer multiple
of 2^-2400, whatever the inputs' range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.stored import Layer
from flwr_krum.kernel.updates import ClientUpdates

Squares: TypeAlias = dict[int, list[int]]
"""Whole multiples of 2^-SHIFT: a client's squared distances from all, by client."""

LEAST_WORK = 1_200_000
"""Differences of numbers that `exact_squares` always looks at: about a tenth of a second."""

SHARE_OF_ROUND = 800
"""So many of a round's products take as long as one difference that is squared exactly."""

SHIFT = 2400
"""Distances are whole multiples of 2^-SHIFT: the square of the smallest float is 2^-2148."""

_BLOCK = 65536


def exact_squares(updates: ClientUpdates, rows: Sequence[int]) -> Squares | None:
    """Return ``2^SHIFT ||V_i - V_j||^2`` of some clients i from all, by i and in the order of j.

    None where that would take too long. Work is counted and not timed: a clock would make the
    selection depend on the load.
    """
    if pair_count(updates.n, len(rows)) * updates.d > most_differences(updates):
        return None
    flat = updates.flat
    found: Squares = {}
    add_squares(found, rows, updates.n, lambda i, j: exact_squared_distance(flat[i], flat[j]))
    return found


def pair_count(n: int, r: int) -> int:
    """Return how many pairs r of n clients make with all the others."""
    return r * n - r * (r + 1) // 2


def add_squares(
    found: Squares, rows: Iterable[int], n: int, square: Callable[[int, int], int]
) -> None:
    """Add some clients' squared distances from all n to those that are found; a pair once."""
    for i in rows:
        found[i] = [0 if j == i else found[j][i] if j in found else square(i, j) for j in range(n)]


def most_differences(updates: ClientUpdates) -> int:
    """Return the differences that may be looked at: what a small part of a round takes."""
    return LEAST_WORK + updates.n**2 * updates.d // SHARE_OF_ROUND


def exact_squared_distance(a: Sequence[Layer], b: Sequence[Layer]) -> int:
    """Return ``2^SHIFT ||a - b||^2`` of two models, given as flat float layers, exactly."""
    return sum(
        _exact_block(x[start : start + _BLOCK], y[start : start + _BLOCK])
        for x, y in zip(a, b, strict=True)
        for start in range(0, x.size, _BLOCK)
    )


def _exact_block(a: Array, b: Array) -> int:
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        high, low = _two_sum(x, -y)
    size, rest = np.abs(high), np.abs(low)
    beyond, small = ~(size <= 2.0**1021), (size < 2.0**-400) & (size > 0)
    huge = (size > 2.0**500) & ~beyond
    # Within these bounds no square, product or error of one leaves the range of floats. What is
    # smaller is taken times 2^600, what is larger times 2^-600: then nothing is near an end of it.
    total = sum(_exact_square(float(x[k]), float(y[k])) for k in np.flatnonzero(beyond))
    total += _exact_huge(high[huge], low[huge], rest[huge])
    total += _exact_squares(high[small] * _UP, low[small] * _UP, SHIFT - 1200, SHIFT - 1200)
    usual = ~(beyond | huge | small)
    faint = usual & (rest < 2.0**-460) & (low != 0)
    usual &= ~faint
    total += _exact_squares(high[usual], low[usual], SHIFT, SHIFT)
    return total + _exact_squares(high[faint], low[faint] * _UP, SHIFT, SHIFT - 1200)


_UP = 2.0**600


def _exact_huge(high: Float64, low: Float64, rest: Float64) -> int:
    """Return the sum of ``(high + low)^2`` for differences beyond 2^500."""
    total, high = 0, high / _UP
    wide, faint = rest > 2.0**400, (rest < 2.0**-460) & (low != 0)
    total += _exact_squares(high[wide], low[wide] / _UP, SHIFT + 1200, SHIFT + 1200)
    total += _exact_squares(high[faint], low[faint] * _UP, SHIFT + 1200, SHIFT - 1200)
    usual = ~(wide | faint)
    return total + _exact_squares(high[usual], low[usual], SHIFT + 1200, SHIFT)


def _exact_squares(high: Float64, low: Float64, shift: int, low_shift: int) -> int:
    """Return the sum of ``(high 2^-a + low 2^-b)^2``, where 2a and 2b are what the shifts lack.

    ``shift`` belongs to ``high^2``, ``low_shift`` to ``low^2``, and their mean to the product.
    """
    parts = [(part, shift) for part in _two_product(high, high)]
    if low.any():
        parts += [(part, (shift + low_shift) // 2) for part in _two_product(2.0 * high, low)]
        parts += [(part, low_shift) for part in _two_product(low, low)]
    return sum(_exact_sum(part, by) for part, by in parts if part.any())


def _exact_square(x: float, y: float) -> int:
    square = (Fraction(x) - Fraction(y)) ** 2 * 2**SHIFT
    return int(square)  # without a fraction: see SHIFT


def _exact_sum(values: Float64, shift: int) -> int:
    """Return ``2^shift`` times the sum of finite values: whole mantissas, added by exponent."""
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    # Halves of 26 and 27 bits: sums of up to 2^26 of them are exact in float64.
    lowest = int(exponent.min())
    bins = exponent - lowest
    high, low = np.bincount(bins, whole >> 27), np.bincount(bins, whole & (2**27 - 1))
    total = sum(
        ((int(high[k]) << 27) + int(low[k])) << int(k)
        for k in np.flatnonzero((high != 0) | (low != 0))
    )
    by = shift + lowest - 53
    # Where this shifts to the right, only zeros fall off: SHIFT holds every bit of a square.
    return total << by if by >= 0 else total >> -by


def _two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return s and e with ``a + b = s + e`` exactly (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return p and e with ``a * b = p + e`` exactly (Dekker)."""
    p = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    e = ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low
    return p, e


def _split(a: Float64) -> tuple[Float64, Float64]:
    c = 134217729.0 * a  # 2^27 + 1 splits 53 bits into 26 and 27
    high = c - (c - a)
    return high, a - high
