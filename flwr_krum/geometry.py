"""Squared distances between client updates, and rankings that exact arithmetic would make.

One pass over the models gives the Gram matrix of the offsets from the global model, and with it
every squared distance, ``||V_i - V_j||^2 = G_ii + G_jj - 2 G_ij``, each with a bound on its
rounding error. Where that bound is not small beside the distance (cancellation), the pair is
computed again from differences. A ranking whose order the bounds leave open is settled on
the contested clients alone, with about 100 bits.

Sources: Blanchard et al., NIPS 2017, Lemma 2 (cost n^2 d); error bounds as in Higham, "Accuracy
and Stability of Numerical Algorithms", section 3.1; error-free sums and products of Knuth and
Dekker.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flwr_krum.updates import BLOCK, Array, ClientUpdates, Float64

Indices: TypeAlias = NDArray[np.intp]
Score: TypeAlias = Callable[[Array], Array]
"""Maps rows (r, n) of squared distances to (r,) scores.

Monotone in every entry, indifferent to the order within a row (which holds the client's own
zero), and written for any number type: exact rankings pass decimals.
"""

UNIT = 2.0**-53
ACCURATE = 2.0**-20
"""Relative error above which a squared distance is computed again from differences."""
DIGITS = decimal.Context(prec=60)
TIE = Decimal(2) ** -90
"""Relative gap below which two exact scores count as tied (the sums carry about 100 bits)."""


@dataclass(frozen=True)
class Distances:
    """Squared distances (n, n) with ``|squared - exact| <= error``, in units of ``1 / scale^2``.

    A client that holds NaN or Inf (``finite`` is False) is infinitely far from every other.
    ``scale`` is a power of two other than 1 only where float64 itself would overflow or underflow.
    """

    squared: Float64
    error: Float64
    finite: NDArray[np.bool_]
    scale: float = 1.0


@dataclass(frozen=True)
class Ranking:
    """Clients by score: the best ``count`` in order, and the scores (n,) of all."""

    best: tuple[int, ...]
    scores: Float64


def rank(updates: ClientUpdates, score: Score, count: int) -> Ranking:
    """Return the ``count`` clients of smallest score, ties to the smallest index.

    The order equals the one that exact arithmetic on the given inputs makes: the score is
    evaluated on lower and upper bounds of the distances, and only clients whose intervals
    overlap are computed again, exactly.

    Parameters
    ----------
    updates : ClientUpdates
        n client models.
    score : callable, (n, n) squared distances -> (n,) scores
        Monotone in every entry; the diagonal is zero.
    count : int
        How many clients are wanted, 1 <= count <= n.

    Raises
    ------
    ValueError
        If fewer than ``count`` clients are finite.
    """
    distances = squared_distances(updates)
    if distances.finite.sum() < count:
        raise ValueError(
            f"only {distances.finite.sum()} of {updates.n} updates are finite, {count} are needed"
        )
    twins = _twins(updates, distances.squared)
    scores = score(distances.squared)[twins]
    contested = _contested(*_bounds(distances, score), twins, count)
    keys: Sequence[float] | Sequence[Decimal] = scores.tolist()
    if contested.size:
        keys = _exact_keys(updates, distances, score, scores, contested, twins)
    order = sorted(range(updates.n), key=lambda i: (keys[i], not distances.finite[i], i))
    if distances.scale != 1.0:
        with np.errstate(over="ignore"):
            scores = score(distances.squared / distances.scale / distances.scale)[twins]
    return Ranking(tuple(order[:count]), scores)


def squared_distances(updates: ClientUpdates) -> Distances:
    """Return all squared distances between n updates, each accurate to about six digits or more.

    One pass and ``n^2 d`` multiplications; pairs that suffer cancellation cost a second pass.
    """
    scale = 1.0
    g = gram(updates)
    if _out_of_range(updates, g):
        scale = _balancing_scale(updates)
        g = gram(updates, scale) if scale != 1.0 else g
    norms = np.diagonal(g)
    fits = np.isfinite(norms)
    finite = fits | _all_finite(updates, ~fits)
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.maximum(norms[:, None] + norms[None, :] - 2.0 * g, 0.0)
        error = _relative_error(updates.d) * (norms[:, None] + norms[None, :])
        doubtful = ~(error <= ACCURATE * squared) & finite[:, None] & finite[None, :]
    # Beside a vector whose norm overflows, one whose norm fits is infinitely far: no second pass.
    doubtful &= fits[:, None] == fits[None, :]
    squared[~np.isfinite(squared)] = np.inf
    rows, columns = np.nonzero(np.triu(doubtful, 1))
    if rows.size:
        values = _differences(updates, rows, columns, scale)
        squared[rows, columns] = squared[columns, rows] = values
        error[rows, columns] = error[columns, rows] = _relative_error(updates.d) * values
    np.fill_diagonal(squared, 0.0)
    np.fill_diagonal(error, 0.0)
    error[~np.isfinite(squared)] = 0.0
    return Distances(squared, error, finite, scale)


def gram(updates: ClientUpdates, scale: float = 1.0) -> Float64:
    """Return the (n, n) Gram matrix of ``scale *`` (update - global model), in float64."""
    g = np.zeros((updates.n, updates.n))
    product = np.empty_like(g)
    # One BLAS thread: a server shares its cores with clients, and spinning threads cost more.
    with (
        _threadpools().limit(limits=1, user_api="blas"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        for block in updates.offset_blocks():
            if scale != 1.0:
                block *= scale
            np.matmul(block, block.T, out=product)
            g += product
    return g


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()


def _relative_error(d: int) -> float:
    # Inner product of a block, the sum over blocks, the centring: u times this, relative to
    # G_ii + G_jj; the same bound holds for a sum of squared differences relative to itself.
    blocks = -(-d // BLOCK)
    return 2.0 * (min(d, BLOCK) + blocks + 8) * UNIT


def _out_of_range(updates: ClientUpdates, g: Float64) -> bool:
    # Squares of float16 and float32 always fit into float64.
    if all(layer.dtype.itemsize < 8 for model in updates.flat for layer in model):
        return False
    norms = np.diagonal(g)
    return bool((~(norms < 1e200) | (norms < 1e-200)).any())


def _balancing_scale(updates: ClientUpdates) -> float:
    """Return the power of two that brings the median client's largest offset near 1."""
    largest = np.zeros(updates.n)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in updates.offset_blocks():
            np.fmax(largest, np.abs(block).max(axis=1), out=largest)
    usable = largest[np.isfinite(largest) & (largest > 0)]
    if not usable.size:
        return 1.0
    exponent = int(np.frexp(np.median(usable))[1])
    return 1.0 if abs(exponent) < 400 else 2.0 ** -max(-1000, min(1000, exponent))


def _all_finite(updates: ClientUpdates, suspects: Array) -> Array:
    finite = np.zeros(updates.n, dtype=bool)
    for i in np.flatnonzero(suspects):
        finite[i] = all(np.isfinite(layer).all() for layer in updates.flat[i])
    return finite


def _differences(updates: ClientUpdates, rows: Indices, columns: Indices, scale: float) -> Float64:
    """Return ``||V_i - V_j||^2`` of the given pairs from float64 differences of the inputs."""
    total = np.zeros(rows.size)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in ClientUpdates(updates.models).offset_blocks():
            if scale != 1.0:
                block *= scale
            for i in np.unique(rows):
                mine = rows == i
                difference = block[columns[mine]] - block[i]
                total[mine] += np.einsum("kb,kb->k", difference, difference)
    return np.where(np.isnan(total), np.inf, total)


def _bounds(distances: Distances, score: Score) -> tuple[Float64, Float64]:
    """Return lower and upper bounds of the scores: the score is monotone in every distance."""
    n = len(distances.squared)
    slack = (2 * n + 4) * UNIT  # the rounding of the score's own sum
    low = score(np.maximum(distances.squared - distances.error, 0.0))
    high = score(distances.squared + distances.error)
    return low * (1.0 - slack), high * (1.0 + slack)


def _twins(updates: ClientUpdates, squared: Float64) -> Indices:
    """Map each client to the first client with the very same values (itself, mostly)."""
    twins = np.arange(updates.n)
    for j, i in np.argwhere(np.tril(squared == 0.0, -1)):
        same = zip(updates.flat[i], updates.flat[j], strict=True)
        if twins[j] == j and all(np.array_equal(a, b) for a, b in same):
            twins[j] = twins[i]
    return twins


def _contested(lower: Float64, upper: Float64, twins: Indices, count: int) -> Indices:
    """Return the clients whose place among the best ``count`` the bounds leave open."""
    overlap = (lower[:, None] <= upper[None, :]) & (lower[None, :] <= upper[:, None])
    overlap &= twins[:, None] != twins[None, :]
    overlap &= np.isfinite(upper)[:, None] & np.isfinite(upper)[None, :]
    certainly_better = (upper[None, :] < lower[:, None]).sum(axis=1)
    in_reach = certainly_better < count
    overlap &= in_reach[:, None] | in_reach[None, :]
    return np.flatnonzero(overlap.any(axis=1))


def _exact_keys(
    updates: ClientUpdates,
    distances: Distances,
    score: Score,
    scores: Float64,
    contested: Indices,
    twins: Indices,
) -> list[Decimal]:
    """Return sort keys: exact scores for the contested clients, the known ones for the rest."""
    rows = sorted({int(twins[i]) for i in contested})
    with decimal.localcontext(DIGITS):
        keys = [Decimal(value) for value in scores.tolist()]
        exact = {i: _exact_score(updates, distances, score, i) for i in rows}
        # Values within the accuracy of the sums are equal; the first in order stands for all.
        previous: Decimal | None = None
        for i in sorted(rows, key=lambda row: exact[row]):
            if previous is not None and exact[i] - previous <= TIE * abs(previous):
                exact[i] = previous
            previous = exact[i]
        for i in contested:
            keys[i] = exact[int(twins[i])]
    return keys


def _exact_score(updates: ClientUpdates, distances: Distances, score: Score, i: int) -> Decimal:
    """Evaluate the score of client ``i`` in 60-digit arithmetic."""
    row = np.full((1, updates.n), Decimal("Infinity"), dtype=object)
    for j in np.flatnonzero(np.isfinite(distances.squared[i])):
        row[0, j] = _exact_distance(updates, i, int(j), distances.scale)
    return Decimal(score(row)[0])


def _exact_distance(updates: ClientUpdates, i: int, j: int, scale: float) -> Decimal:
    """Return ``||V_i - V_j||^2`` to about 100 bits, by error-free sums and products."""
    total = Decimal(0)
    for a, b in zip(updates.flat[i], updates.flat[j], strict=True):
        for start in range(0, a.size, BLOCK):
            part = slice(start, start + BLOCK)
            x, y = a[part].astype(np.float64) * scale, b[part].astype(np.float64) * scale
            high, low = _two_sum(x, -y)
            square, rest = _two_square(high)
            terms = [*square.tolist(), *(rest + 2.0 * high * low).tolist()]
            nearest = math.fsum(terms)
            total += Decimal(nearest) + Decimal(math.fsum([*terms, -nearest]))
    return total


def _two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return s and e with ``a + b = s + e`` exactly (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_square(a: Float64) -> tuple[Float64, Float64]:
    """Return p and e with ``a * a = p + e`` exactly (Dekker)."""
    p = a * a
    c = 134217729.0 * a  # 2^27 + 1 splits 53 bits into 26 and 27
    high = c - (c - a)
    low = a - high
    return p, ((high * high - p) + 2.0 * high * low) + low * low
