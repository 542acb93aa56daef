"""SMEA: the mean of the n - f updates that vary least in every direction.

Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Rizk, Voitovych, "On the Privacy-Robustness-
Utility Trilemma in Distributed Learning", ICML 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule

STEPS = 6
"""Of the power method; each costs a product (k, n) by (n, n)."""

SLACK = 1e-9
"""Above the rounding of bounds and eigenvalues: a set is put aside only if it is worse by more."""

BLOCK = 2**17
"""Numbers in the matrices whose eigenvalues are computed together."""

TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class SMEA(Rule):
    """Return the mean of the S of n - f clients whose covariance has the smallest top eigenvalue.

    All ``C(n, f)`` sets are tried, in lexicographic order; the first of equals is taken. A lower
    bound puts most of them aside before their eigenvalues are computed.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f.
    most_sets : int
        Sets that may be tried; more are refused, since a round would not end.

    Raises
    ------
    ValueError
        If there are more sets.

    Examples
    --------
    >>> import numpy as np
    >>> SMEA(f=1)(np.array([[1.0], [2.0], [3.0], [90.0]])).selected
    (0, 1, 2)
    """

    most_sets: int = 200_000

    requirement = "2f < n"
    facts = Facts(
        source="any two sets of n - f clients share an honest one for 2f < n",
        breakdown="1/2",
        cost="O(n^2 d), and O(n^3) for each of C(n, f) sets",
        invariances=ALL,
        kappa=Kappa(
            "4f/(n-f) (1 + f/(n-2f))^2, on the largest eigenvalue of the covariance",
            "Allouah et al., ICML 2023",
            checked=False,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("most_sets", self.most_sets, 1)

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def check(self, n: int) -> None:
        """Require ``2f < n``, and no more sets than may be tried."""
        super().check(n)
        sets = math.comb(n, max(1, n - self.liars(n)))
        if sets > self.most_sets:
            raise ValueError(
                f"SMEA would try {sets} sets at n={n}, f={self.liars(n)}; legal: "
                f"most_sets={self.most_sets} or more, or a smaller f"
            )

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Try every set."""
        n, squared = geometry.n, geometry.squared
        size = max(1, n - self.liars(n))
        sets, inside = _sets(n, size)
        lower = _lower_bounds(-0.5 * squared, inside)
        first = lower.argmin()
        keep = ~(lower > _tops(squared, sets[[first]])[0] * (1.0 + SLACK))
        keep[first] = True
        promising = sets[keep]
        best, least = promising[0], np.inf
        for chosen, top in zip(promising, _tops(squared, promising), strict=True):
            if top < least * (1.0 - 1e-12):  # equal sets differ by rounding
                best, least = chosen, top
        return Choice.uniform(n, tuple(map(int, best)))


@lru_cache(maxsize=2)
def _sets(n: int, size: int) -> tuple[Indices, Float64]:
    """Return all sets (k, size) in lexicographic order, and 1 (k, n) for who is inside."""
    sets = np.array(list(combinations(range(n), size)), dtype=np.intp)
    inside = np.zeros((len(sets), n))
    np.put_along_axis(inside, sets, 1.0, axis=1)
    return sets, inside


def _tops(squared: Float64, sets: Indices) -> Float64:
    """Return the top eigenvalue of the scatter of each of some sets (k, size)."""
    size = sets.shape[1]
    centre = np.eye(size) - 1.0 / size
    parts = np.array_split(sets, math.ceil(sets.size * size / BLOCK))
    scatters = (-0.5 * centre @ squared[s[:, :, None], s[:, None, :]] @ centre for s in parts)
    return np.concatenate([np.linalg.eigvalsh(each)[:, -1] for each in scatters])


def _lower_bounds(gram: Float64, inside: Float64) -> Float64:
    """Return <x, A x> / <x, x> after some steps of the power method, for the scatter A of each set.

    It is no more than the top eigenvalue. All sets step together: x (k, n) is 0 outside of them.
    """
    size = inside[0].sum()
    unit = max(np.abs(gram).max(), TINY)  # squares of far clients would overflow
    # Any start will do that no set's top eigenvector is orthogonal to.
    x = y = inside * np.cos(np.arange(len(gram)) ** 2)
    for _ in range(STEPS):
        x = inside * (y - y.sum(axis=1, keepdims=True) / size)
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)
        y = inside * (x @ (gram / unit))
    quotients: Float64 = unit * (x * y).sum(axis=1)
    return quotients
