"""Rankings of clients by score that exact arithmetic on their updates would make.

Distances come with bounds on their error, and a score grows with every distance: so the score of
the lower bounds and the score of the upper bounds enclose the exact one. Only clients whose
intervals overlap where it matters are computed again, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from flwr_krum.kernel import ways
from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.distances import UNIT, Distances, below_diagonal
from flwr_krum.kernel.exact import Squares
from flwr_krum.kernel.pairwise import gram_distances, sharper, squared_distances
from flwr_krum.kernel.updates import ClientUpdates

Score: TypeAlias = Callable[[Array], Array]
"""Maps rows (r, n) of squared distances to (r,) scores.

Monotone in every entry, indifferent to the order within a row (which holds the client's own
zero), and written for any number type: exact rankings pass whole numbers.
"""

Contrast: TypeAlias = Callable[[Distances, int], tuple[Float64, Float64]]
"""Maps distances and a pivot to every client's score less the pivot's (n,), and its error (n,)."""

GIANT = 2.0**20
"""How much farther than most a client is that hides what is left of a sum of lengths."""

TOO_MANY = "too close for their number of parameters to be compared exactly"
"""Why rounding decides between scores, as a report says it."""

PRODUCTS = "too close for products of layers, which are compared in float64"
"""The same where layers are seen as their products."""

_GUARD_BITS = 256
"""Bits beyond those of the smallest root: sums of roots that agree so far count as equal."""


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
        return _ranking_of_some(among, finite, count, distances)

    twins, scores, contested = _compare(updates, distances, score, count, contrast)
    swamped = contrast is not None and _not_giants(distances).size < updates.n
    helped = swamped and _products_help(distances)
    if np.unique(twins[contested]).size > 1 and (distances.coarse or helped):
        distances = gram_distances(updates) if helped else sharper(updates, distances, contested)
        twins, scores, contested = _compare(updates, distances, score, count, contrast)
    order = sorted(range(updates.n), key=lambda i: (scores[i], i))
    places = sorted(order.index(i) for i in contested)
    if contested.size and _knows_contrast(distances, contrast):
        order = [*contested.tolist(), *(i for i in order if i not in contested)]
        places = list(range(contested.size))
    representatives = np.unique(twins[contested]).tolist()
    exact: dict[int, float] = dict.fromkeys(representatives, 0)
    note = ""
    if len(representatives) > 1:
        whole = updates.products is None
        squares = ways.exact_squares(updates, representatives) if whole else None
        if squares is None:
            note = _undecided(scores, contested, TOO_MANY if whole else PRODUCTS)
            if swamped:
                return _rank_of_near(updates, score, count, contrast, distances, note)
            exact = dict(enumerate(scores.tolist()))
        else:
            exact = _exact_scores(squares, score)
    best_first = sorted(contested.tolist(), key=lambda i: (exact[int(twins[i])], i))
    for place, i in zip(places, best_first, strict=True):
        order[place] = i
    if distances.scale != 1.0:
        scores = _in_their_own_unit(scores, score, distances.scale)
    return Ranking(tuple(order[:count]), tuple(order), scores, distances, note)


def rank_as_rounded(squared: Float64, score: Score, count: int) -> Ranking:
    """Return the ``count`` rows of smallest score as float64 has them, where no model is at hand.

    Parameters
    ----------
    squared : (n, n)
        Squared distances.
    score : callable
    count : int
        As for `rank`.
    """
    return _as_scored(score(squared), count)


def rank_where_certain(
    squared: Float64, error: Float64, twins: Indices, score: Score, count: int
) -> Ranking | None:
    """Return the ``count`` rows of smallest score; None where the bounds leave a place open.

    Parameters
    ----------
    squared, error : (n, n)
        Squared distances, and how wrong they may be.
    twins : (n,)
        The first of the rows that are the same as each; of these the first is the best.
    score : callable
    count : int
        As for `rank`.
    """
    lower, upper = _bounds(squared, error, score)
    if _contested(lower, upper, twins, count).size:
        return None
    return _as_scored(score(squared)[twins], count)


def _as_scored(scores: Float64, count: int) -> Ranking:
    order = tuple(sorted(range(len(scores)), key=lambda i: (scores[i], i)))
    return Ranking(order[:count], order, scores)


def _ranking_of_some(among: Ranking, some: Indices, count: int, distances: Distances) -> Ranking:
    """Return a ranking of some clients as one of all; the others have an infinite score."""
    scores = np.full(len(distances.squared), np.inf)
    scores[some] = among.scores
    order = tuple(int(some[i]) for i in among.order)
    return Ranking(order[:count], order, scores, distances, among.note)


def _rank_of_near(
    updates: ClientUpdates,
    score: Score,
    count: int,
    contrast: Contrast | None,
    distances: Distances,
    note: str,
) -> Ranking:
    """Return the ranking of all but giants: sums of lengths that these swamp say nothing."""
    near = _not_giants(distances)
    among = rank(updates.subset(near), score, count, contrast, distances.among(near))
    found = _ranking_of_some(among, near, count, distances)
    return replace(found, note=among.note or note)


def _not_giants(distances: Distances) -> Indices:
    """Return the clients whose distance from most is not out of all proportion to that of most."""
    n = len(distances.squared)
    sizes = np.sort(distances.squared, axis=1)[:, n // 2]
    return np.flatnonzero(sizes <= GIANT**2 * np.sort(sizes)[(n - 1) // 2])


def _products_help(distances: Distances) -> bool:
    """Say whether inner products would tell more: not where they are known, or overflow."""
    return not np.isfinite(distances.dot_error) and bool(np.isfinite(distances.squared).all())


def _undecided(scores: Float64, contested: Indices, reason: str) -> str:
    """Say which places rounding decided, and how close they are."""
    values = scores[contested]
    gap = float(np.ptp(values) / values.max()) if 0.0 < values.max() < np.inf else 0.0
    shown = ", ".join(map(str, contested[:10])) + (" ..." if contested.size > 10 else "")
    return (
        f"undecided: the scores of {contested.size} replies (places {shown} in the order of the "
        f"clients) differ by {gap:.1e} at most and came {reason}; the order is that of the rounded "
        "scores"
    )


def _compare(
    updates: ClientUpdates,
    distances: Distances,
    score: Score,
    count: int,
    contrast: Contrast | None,
) -> tuple[Indices, Float64, Indices]:
    """Return each client's twin, the scores, and whose place among the best is not certain."""
    twins = _twins(updates, distances.squared)
    with np.errstate(over="ignore"):
        scores = score(distances.squared)[twins]
        lower, upper = _bounds(distances.squared, distances.error, score)
    contested = _contested(lower, upper, twins, count)
    if contested.size and contrast is not None and _knows_contrast(distances, contrast):
        contested = _best_by_contrast(distances, contrast, contested, scores)
    return twins, scores, contested


def _knows_contrast(distances: Distances, contrast: Contrast | None) -> bool:
    """Say whether differences of scores can be had: they take inner products of known accuracy."""
    return contrast is not None and bool(np.isfinite(distances.dot_error))


def _in_their_own_unit(scores: Float64, score: Score, scale: float) -> Float64:
    """Undo the scale in as many steps as the score has degrees: 2 for squares, 1 for lengths."""
    one, four = score(np.array([[0.0, 1.0], [0.0, 4.0]]))
    with np.errstate(over="ignore"):
        for _ in range(round(float(np.log2(four / one)))):
            scores = scores / scale
    return scores


def _bounds(squared: Float64, error: Float64, score: Score) -> tuple[Float64, Float64]:
    """Return lower and upper bounds of the scores: the score is monotone in every distance."""
    slack = (2 * len(squared) + 4) * UNIT  # the rounding of the score's own sum
    least = np.maximum(squared - error, 0.0, where=np.isfinite(squared), out=squared.copy())
    least[np.isinf(squared)] = np.finfo(np.float64).max  # what overflows is at least this
    return score(least) * (1.0 - slack), score(squared + error) * (1.0 + slack)


def _twins(updates: ClientUpdates, squared: Float64) -> Indices:
    """Map each client to the first client with the very same values (itself, mostly)."""
    twins = np.arange(updates.n)
    candidates = np.argwhere((squared == 0.0) & below_diagonal(updates.n))
    if not candidates.size:
        return twins
    marks = ways.fingerprints(updates, np.unique(candidates))
    for j, i in candidates.tolist():
        if twins[j] == j and marks.get(i) == marks.get(j) and updates.are_equal(i, j):
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


class _Square(int):
    """A whole number that NumPy can take the root of."""

    def sqrt(self) -> int:
        """Return the root, rounded down."""
        return math.isqrt(self)


def _exact_scores(squares: Squares, score: Score) -> dict[int, float]:
    """Return scores of clients from their exact squared distances, equal where they tie.

    They are in a unit of their own. Sums of square roots that agree to 256 bits beyond the
    smallest root count as equal: whether they are cannot be known.
    """
    lowest = min((_trailing_zeros(x) for row in squares.values() for x in row if x), default=0)
    exact: dict[int, float] = {}
    for i, row in squares.items():
        whole = [_Square((x >> lowest) << 2 * _GUARD_BITS) for x in row]
        exact[i] = int(score(np.array([whole], dtype=object))[0])
    previous: float | None = None
    for i in sorted(exact, key=lambda i: exact[i]):
        # Each root is short of the exact one by less than 1.
        if previous is not None and exact[i] - previous <= len(squares[i]):
            exact[i] = previous
        previous = exact[i]
    return exact


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1
