"""Squared distances by way of float32 products, each with a bound that holds for every input.

BLAS multiplies float32 at twice the rate of float64 and reads half as much. What that leaves open
between clients is looked at again in float64 (`kernel.ranking`): the selection is never float32's.

The bound. With x_i = V_i - w, and unit roundoff u, float32 keeps y_i = x_i + e_i, where
|e_ik| <= u |y_ik|: a difference is rounded once, and a difference that underflows is exact. A dot
product of b terms is off by at most gamma_b = b u / (1 - b u) of the sum of the terms' sizes, in
whatever order BLAS adds them and whether or not it fuses (Higham, section 3.1), and by 2^-150 for
each product that underflows. Sums of b terms are added in float64. So the Gram matrix G of all d
columns obeys, by Cauchy's inequality and with g = gamma_b + 2 u + u^2 + the float64 roundings::

    |G_ij - <x_i, x_j>|  <=  g ||y_i|| ||y_j|| + d 2^-149

and the distances D_ij = G_ii + G_jj - 2 G_ij obey::

    |D_ij - ||x_i - x_j||^2|  <=  g (||y_i|| + ||y_j||)^2 + 4 d 2^-149
                              <=  2 g (||y_i||^2 + ||y_j||^2) + 4 d 2^-149

as ||(y_i - y_j) - (x_i - x_j)|| <= u (||y_i|| + ||y_j||). Lengths are themselves known to g only,
and a length of x is one of y but for u: g (1 + 8 g) covers both, and `_relative` is larger.
"""

from __future__ import annotations

import numpy as np

from flwr_krum.kernel import blas
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.distances import SINGLE_TINY, SINGLE_UNIT, UNIT, Distances
from flwr_krum.kernel.updates import PIECE, ClientUpdates

FINE = 2.0**-12
"""A bound, beside a distance, up to which six digits are good: hardly any error reaches it."""

LEAST_CLIENTS = 3
"""Between fewer there is nothing to choose."""


def squared_distances(updates: ClientUpdates) -> Distances | None:
    """Return all squared distances from float32 products; None where these would tell too little.

    That is where a number needs float64, where a square leaves float32, and where more than half
    of the distances are small beside the offsets from the global model: the first columns show it.
    Rows of the server's are left to float64 as well.
    """
    if updates.n < LEAST_CLIENTS or updates.server_rows or not updates.is_single:
        return None
    strip = blas.strip_width(updates.n)
    first = updates.d if updates.is_small else min(updates.d, PIECE)
    found = _distances(blas.single_gram(updates, strip, 0, first), strip, first)
    if found is None or first == updates.d:
        return found
    rest = blas.single_gram(updates, strip, first, updates.d)
    return _distances(found.gram + rest, strip, updates.d)


def _distances(gram: Float64, strip: int, d: int) -> Distances | None:
    """Return the distances that follow from a Gram matrix, if most of them are fine."""
    n, squares = len(gram), np.diagonal(gram)
    if not np.isfinite(squares).all():
        return None
    both = squares[:, None] + squares[None, :]
    relative = _relative(strip, d)
    squared = np.maximum(both - 2.0 * gram, 0.0)
    error = 2.0 * relative * both + 4.0 * d * SINGLE_TINY
    np.fill_diagonal(squared, 0.0)
    np.fill_diagonal(error, 0.0)
    if 2 * np.count_nonzero(error > FINE * squared) > n * (n - 1):
        return None
    # A square is at least half of what underflow leaves of it; one of 0 has no digits.
    with np.errstate(all="ignore"):
        dot_error = float(relative + d * SINGLE_TINY / squares.min())
    return Distances(squared, error, np.ones(n, dtype=bool), gram, dot_error, coarse=True)


def _relative(strip: int, d: int) -> float:
    """Return more than g (1 + 8 g) for strips of up to 2,048 columns: 2 u are for the offsets."""
    return (strip + 8) * SINGLE_UNIT + (3 * -(-d // strip) + 16) * UNIT
