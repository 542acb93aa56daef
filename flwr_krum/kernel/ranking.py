"""Rankings of clients by score that exact arithmetic on their updates would make.

Distances come with bounds on their error, and a score grows with every distance: so the score of
the lower bounds and the score of the upper bounds enclose the exact one. Only clients whose
intervals overlap where it matters are computed again, exactly.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.distances import UNIT, Distances, below_diagonal
from flwr_krum.kernel.exact import SHIFT, exact_squared_distance
from flwr_krum.kernel.pairwise import gram_distances, sharper, squared_distances
from flwr_krum.kernel.updates import ClientUpdates

Score: TypeAlias = Callable[[Array], Array]
"""Maps rows (r, n) of squared distances to (r,) scores.

Monotone in every entry, indifferent to the order within a row (which holds the client's own
zero), and written for any number type: exact rankings pass decimals.
"""

Contrast: TypeAlias = Callable[[Distances, int], tuple[Float64, Float64]]
"""Maps distances and a pivot to every client's score less the pivot's (n,), and its error (n,)."""

LEAST_WORK = 1_200_000
"""Differences of numbers that an exact comparison may always look at: about a tenth of a second."""

ROOT = 1_000
"""Differences that take as long as one square root of hundreds of digits."""

SHARE_OF_ROUND = 800
"""So many of a round's products take as long as one difference that is compared exactly."""

_GUARD_DIGITS = 60
"""Digits beyond those that the distances themselves have: for square roots and long sums."""


@dataclass(frozen=True)
class Ranking:
    """Clients by score, and the distances that it was worked out from.

    Attributes
    ----------
    best : indices
        The ``count`` clients that were asked for, best first, in the order of exact arithmetic.
    order : indices
        All finite clients; beyond ``best`` in the order of the rounded scores.
    scores : (n,)
    distances : Distances, optional
        None where the rows are mixtures.
    note : str
        What the round should tell of how the order was found.
    """

    best: tuple[int, ...]
    order: tuple[int, ...]
    scores: Float64
    distances: Distances | None = None
    note: str = ""


def rank(
    updates: ClientUpdates,
    score: Score,
    count: int,
    contrast: Contrast | None = None,
    distances: Distances | None = None,
) -> Ranking:
    """Return the ``count`` clients of smallest score, ties to the smallest index.

    Parameters
    ----------
    updates : ClientUpdates
        n client models.
    score : callable, rows (r, n) of squared distances -> (r,) scores
        Monotone in every entry.
    count : int
        How many clients are wanted, 1 <= count <= n.
    contrast : callable, optional
        For ``count = 1``: differences of scores that are more accurate than the scores, where
        something large is common to all of them.
    distances : Distances, optional
        The clients' distances, where they are known already.

    Raises
    ------
    ValueError
        If fewer than ``count`` clients are finite.
    """
    distances = squared_distances(updates) if distances is None else distances
    finite = np.flatnonzero(distances.finite)
    if finite.size < count:
        raise ValueError(
            f"only {finite.size} of {updates.n} updates are finite, {count} are needed"
        )
    if finite.size < updates.n:
        # A client that holds NaN or Inf is as far from all others: it decides nothing among them.
        among = rank(updates.subset(finite), score, count, contrast)
        scores = np.full(updates.n, np.inf)
        scores[finite] = among.scores
        order = tuple(int(finite[i]) for i in among.order)
        return Ranking(order[:count], order, scores, distances)

    twins = _twins(updates, distances.squared)
    scores, contested = _compare(distances, score, twins, count)
    if contested.size and contrast is not None and not np.isfinite(distances.dot_error):
        distances = gram_distances(updates)
        scores, contested = _compare(distances, score, twins, count)
    elif contested.size and distances.coarse:
        distances = sharper(updates, distances, contested)
        scores, contested = _compare(distances, score, twins, count)
    keys = np.array(scores.tolist(), dtype=object)
    if contested.size and contrast is not None:
        contested = _best_by_contrast(distances, contrast, contested, scores)
        keys[:] = np.inf
        keys[contested] = 0.0
    note = ""
    if np.unique(twins[contested]).size > 1:
        work = _exact_work(updates, contested, twins, has_roots=contrast is not None)
        # Sums of lengths that a giant swamps say nothing of the others: there no limit applies.
        if contrast is not None or work <= _most_work(updates):
            keys[contested] = _exact_scores(updates, distances, score, contested, twins)
        else:
            keys[contested] = scores[contested]
            note = _undecided(scores, contested)
    order = tuple(sorted(range(updates.n), key=lambda i: (keys[i], i)))
    if distances.scale != 1.0:
        scores = _in_their_own_unit(scores, score, distances.scale)
    return Ranking(order[:count], order, scores, distances, note)


def _exact_work(updates: ClientUpdates, contested: Indices, twins: Indices, has_roots: bool) -> int:
    """Return how many differences of numbers an exact comparison looks at.

    It is counted and not timed: a clock would make the selection depend on the load.
    """
    representatives = np.unique(twins[contested]).size
    pairs = representatives * updates.n - representatives * (representatives + 1) // 2
    roots = representatives * updates.n * ROOT if has_roots else 0
    return int(pairs * updates.d) + roots


def _most_work(updates: ClientUpdates) -> int:
    """Return the differences that may be looked at: what a small part of a round takes."""
    return LEAST_WORK + updates.n**2 * updates.d // SHARE_OF_ROUND


def _undecided(scores: Float64, contested: Indices) -> str:
    """Say which places rounding decided, and how close they are."""
    values = scores[contested]
    gap = float(np.ptp(values) / values.max()) if 0.0 < values.max() < np.inf else 0.0
    shown = ", ".join(map(str, contested[:10])) + (" ..." if contested.size > 10 else "")
    return (
        f"undecided: the scores of {contested.size} replies (places {shown} in the order of the "
        f"clients) differ by {gap:.1e} at most and came too close for their number of parameters "
        "to be compared exactly; the order is that of the rounded scores"
    )


def _compare(
    distances: Distances, score: Score, twins: Indices, count: int
) -> tuple[Float64, Indices]:
    """Return the scores, and the clients whose place among the best is not certain."""
    with np.errstate(over="ignore"):
        scores = score(distances.squared)[twins]
        lower, upper = _bounds(distances, score)
    return scores, _contested(lower, upper, twins, count)


def _in_their_own_unit(scores: Float64, score: Score, scale: float) -> Float64:
    """Undo the scale in as many steps as the score has degrees: 2 for squares, 1 for lengths."""
    one, four = score(np.array([[0.0, 1.0], [0.0, 4.0]]))
    with np.errstate(over="ignore"):
        for _ in range(round(float(np.log2(four / one)))):
            scores = scores / scale
    return scores


def _bounds(distances: Distances, score: Score) -> tuple[Float64, Float64]:
    """Return lower and upper bounds of the scores: the score is monotone in every distance."""
    squared, error = distances.squared, distances.error
    slack = (2 * len(squared) + 4) * UNIT  # the rounding of the score's own sum
    least = np.maximum(squared - error, 0.0, where=np.isfinite(squared), out=squared.copy())
    least[np.isinf(squared)] = np.finfo(np.float64).max  # what overflows is at least this
    return score(least) * (1.0 - slack), score(squared + error) * (1.0 + slack)


def _twins(updates: ClientUpdates, squared: Float64) -> Indices:
    """Map each client to the first client with the very same values (itself, mostly)."""
    twins = np.arange(updates.n)
    for j, i in np.argwhere((squared == 0.0) & below_diagonal(updates.n)):
        same = zip(updates.flat[i], updates.flat[j], strict=True)
        if twins[j] == j and all(np.array_equal(a, b) for a, b in same):
            twins[j] = twins[i]
    return twins


def _contested(lower: Float64, upper: Float64, twins: Indices, count: int) -> Indices:
    """Return the clients whose place among the best ``count`` the bounds leave open."""
    overlap = (lower[:, None] <= upper[None, :]) & (lower[None, :] <= upper[:, None])
    overlap &= twins[:, None] != twins[None, :]
    certainly_better = (upper[None, :] < lower[:, None]).sum(axis=1)
    in_reach = certainly_better < count
    overlap &= in_reach[:, None] | in_reach[None, :]
    return np.flatnonzero(overlap.any(axis=1))


def _best_by_contrast(
    distances: Distances, contrast: Contrast, contested: Indices, scores: Float64
) -> Indices:
    """Return those of the contested clients that may still be the best of all."""
    pivot = int(contested[np.argmin(scores[contested])])
    with np.errstate(all="ignore"):
        gaps, errors = contrast(distances, pivot)
    least, most = gaps[contested] - errors[contested], gaps[contested] + errors[contested]
    # Where overflow leaves no number, nothing is known: such a client stays.
    left: Indices = contested[~(least > np.nanmin(np.append(most, np.inf)))]
    return left


def _exact_scores(
    updates: ClientUpdates,
    distances: Distances,
    score: Score,
    contested: Indices,
    twins: Indices,
) -> list[Decimal]:
    """Return the exact scores of the contested clients, equal where they tie."""
    representatives = sorted({int(twins[i]) for i in contested})
    known: dict[frozenset[int], int] = {}
    for i in representatives:
        for j in range(updates.n):
            if frozenset((i, j)) not in known:
                pair = updates.flat[i], updates.flat[j]
                known[frozenset((i, j))] = exact_squared_distance(*pair)
    digits = _GUARD_DIGITS + _digits(list(known.values()))
    with decimal.localcontext(prec=digits, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN):
        unit = Decimal(distances.scale) ** 2 / Decimal(2) ** SHIFT
        exact = {}
        for i in representatives:
            row = [unit * known[frozenset((i, j))] for j in range(updates.n)]
            exact[i] = Decimal(score(np.array([row], dtype=object))[0])
        # Scores that differ at all differ in the digits of the distances, not in the guards.
        tie = Decimal(10) ** (_GUARD_DIGITS // 2 - digits)
        previous: Decimal | None = None
        for i in sorted(representatives, key=lambda i: exact[i]):
            if previous is not None and exact[i] - previous <= tie * previous:
                exact[i] = previous
            previous = exact[i]
    return [exact[int(twins[i])] for i in contested]


def _digits(numbers: list[int]) -> int:
    """Return how many decimal digits lie between the first and the last set bit of all numbers."""
    bits = [n.bit_length() for n in numbers if n]
    lowest = [(n & -n).bit_length() for n in numbers if n]
    return math.ceil((max(bits) - min(lowest) + 1) * math.log10(2)) if bits else 0
