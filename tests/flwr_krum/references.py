"""What a rule should find, by plain loops over Python floats or fractions.

Nothing here shares code with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

CONFORMANCE = (0.0, 3.0, 6.0, 10.0, 11.0)
"""Five scalars with f = 1, whose Krum scores are 45, 18, 25, 17 and 26."""


def squared_distances(V: Any, number: Callable[[float], Any] = float) -> list[list[Any]]:
    """Return all squared distances by the definition, in floats or in fractions."""
    rows = [[number(float(x)) for x in row] for row in V]
    n = len(rows)
    squared = [[number(0.0)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i):
            total = sum((a - b) * (a - b) for a, b in zip(rows[i], rows[j], strict=True))
            squared[i][j] = squared[j][i] = total
    return squared


def exact_distances(V: Any) -> list[list[Fraction]]:
    """Return all squared distances without rounding."""
    return squared_distances(V, Fraction)


def krum_scores(squared: Sequence[Sequence[Any]], neighbours: int) -> list[Any]:
    """Sum, for each client, the squared distances to its closest others."""
    scores = []
    for i, row in enumerate(squared):
        others = sorted(row[j] for j in range(len(row)) if j != i)[:neighbours]
        exact = others and isinstance(others[0], Fraction)
        scores.append(sum(others, Fraction(0)) if exact else math.fsum(others))
    return scores


def medoid_scores(squared: Sequence[Sequence[float]]) -> list[float]:
    """Sum, for each client, the unsquared distances to all others.

    Rounded to nine digits: sums of square roots that are equal may differ in the last bit.
    """
    return [float(f"{math.fsum(math.sqrt(x) for x in row):.9e}") for row in squared]


def exact_medoid_scores(squared: Sequence[Sequence[Fraction]]) -> list[int]:
    """Sum the distances in units of 2^-4000 and keep those of 2^-3900: equal sums compare equal.

    The smallest distance between two numbers of 64 bits is 2^-1074, so 850 digits are left of it.
    """
    n = len(squared)
    roots = [[0] * n for _ in range(n)]
    for i, j in combinations(range(n), 2):
        x = squared[i][j]
        roots[i][j] = roots[j][i] = math.isqrt((x.numerator << 8000) // x.denominator)
    return [(sum(row) + 2**99) >> 100 for row in roots]


def best(scores: Sequence[Any], count: int) -> tuple[int, ...]:
    """Return the indices of the smallest scores, ties to the smallest index."""
    return tuple(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:count])


def f_in_force(
    declared: int, accepted: int, refused: int, least: Any = lambda f: 2 * f + 3 if f else 1
) -> int:
    """Return the largest legal f from f - r to f; f itself where there is none, or r > f."""
    if 0 < refused <= declared:
        for f in range(declared, declared - refused - 1, -1):
            if accepted >= least(f):
                return f
    return declared
