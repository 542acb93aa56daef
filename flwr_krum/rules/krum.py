"""Krum, Multi-Krum and 1-p Krum.

Source: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", NIPS 2017, and its supplement. The score sums the squared distances
to the n - f - 2 closest other vectors (main paper, Proposition 1; Lemma 2's proof says n - f - 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from numbers import Real
from typing import Self

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.ranking import Ranking
from flwr_krum.rules.average import Average
from flwr_krum.rules.facts import ALL, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule


def krum_scores(squared: Array, neighbours: int) -> Array:
    """Return ``s(i) = sum_{i -> j} ||V_i - V_j||^2`` over the closest other vectors.

    Parameters
    ----------
    squared : (r, n)
        Rows of squared distances, each with the client's own zero in it.
    neighbours : int
        How many other vectors count, ``n - f - 2``.
    """
    # A row's own zero is its smallest entry: dropping one smallest entry drops the client itself.
    scores: Array = np.sort(squared, axis=1)[:, 1 : neighbours + 1].sum(axis=1)
    return scores


@lru_cache(maxsize=64)  # n and f are the same in most rounds
def eta_squared(n: int, f: int) -> Fraction:
    """Return ``eta(n, f)^2`` of Proposition 1 exactly, for ``2f + 2 < n``."""
    spread = Fraction(f * (n - f - 2) + f**2 * (n - f - 1), n - 2 * f - 2)
    return 2 * (n - f + spread)


@dataclass(frozen=True)
class Krum(Rule):
    """Return the ``V_i`` of smallest score ``s(i)``, the sum of its n - f - 2 closest distances.

    ``s(i) = sum_{i -> j} ||V_i - V_j||^2`` over the n - f - 2 closest other vectors; ties go to
    the smallest index. Cost O(n^2 d) (Lemma 2).

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f + 2 < n``; None is (n - 3) // 2.
    strict : bool
        False allows an illegal f, with ``max(1, n - f - 2)`` neighbours (the paper's own
        experiment with 45 % of 20 workers needs it).

    Raises
    ------
    ValueError
        If f is no integer >= 0 or, when called, ``2f + 2 >= n`` and strict.

    Examples
    --------
    >>> import numpy as np
    >>> result = Krum(f=1)(np.array([[0.0], [3.0], [6.0], [10.0], [11.0]]))
    >>> result.vector, result.selected, result.scores
    (array([10.]), (3,), array([45., 18., 25., 17., 26.]))
    """

    requirement = "2f + 2 < n"
    in_proposition_1 = True
    weighs = "selected"
    is_ranking = True
    facts = Facts(
        source="Blanchard et al. 2017, Proposition 1",
        breakdown="1/2",
        cost="O(n^2 d) (Lemma 2)",
        invariances=ALL,
        kappa=Kappa("6 (1 + f/(n-2f))", "Allouah et al., AISTATS 2023", checked=False),
    )

    def least(self, f: int) -> int:
        """Return ``2f + 3`` (Proposition 1), and 1 for f = 0, where any choice is honest."""
        return 2 * f + 3 if f else 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Put all weight on the client of smallest score."""
        return Choice.best(self._rank(geometry, 1))

    def _rank(self, geometry: Geometry, count: int) -> Ranking:
        neighbours = max(1, geometry.n - self.liars(geometry.n) - 2)
        return geometry.rank(partial(krum_scores, neighbours=neighbours), count)


@dataclass(frozen=True)
class MultiKrum(Krum):
    """Return the unweighted mean of the m vectors of smallest Krum score.

    ``(1/m) sum_{i in best m} V_i``; m = 1 is Krum, m = n is averaging.

    Parameters
    ----------
    f, strict
        As for Krum.
    m : int, optional
        Vectors to average, 1 <= m <= n; by default n - f, as in the paper.

    Raises
    ------
    ValueError
        If f or m is illegal.

    Examples
    --------
    >>> import numpy as np
    >>> MultiKrum(f=1, m=2)(np.array([[0.0], [3.0], [6.0], [10.0], [11.0]])).selected
    (3, 1)
    """

    m: int | None = None

    facts = Facts(
        source="Blanchard et al. 2017, Proposition 1, which is about Krum",
        breakdown="1/2",
        cost="O(n^2 d)",
        invariances=ALL,
        kappa="a bound is in Bareilles et al., arXiv 2602.03899; not read, not checked",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.m is not None:
            whole_number("m", self.m, 1)

    def fitted(self, n: int, f: int) -> Self:
        """Return the rule for n clients and another f; m never exceeds n - f."""
        m = self.m if self.m is None else min(self.m, max(1, n - f))
        return replace(self, f=f, m=m)

    def check(self, n: int) -> None:
        """Require ``2f + 2 < n`` unless strict is False, and ``m <= n`` always."""
        super().check(n)
        if self.m is not None and self.m > n:
            raise ValueError(f"MultiKrum averages m vectors of n, got m={self.m}, n={n}; m <= {n}")

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh the m clients of smallest score alike."""
        n = geometry.n
        return Choice.best(self._rank(geometry, self.m or max(1, n - self.liars(n))))


def inverse_square_root(server_round: int) -> float:
    """Return ``p_t = 1 / sqrt(t)``, the paper's chance of averaging in round t >= 1."""
    return 1.0 / math.sqrt(server_round)


@dataclass(frozen=True)
class OneMinusPKrum(Krum):
    """Average all vectors with probability ``p_t``, else Krum (supplement, section 4).

    The draw is decided by (seed, round) alone, so that a run can be repeated and resumed.
    Each averaged round is at the mercy of a single client (Lemma 1), and since
    ``sum_t 1/sqrt(t)`` diverges such rounds recur for ever.

    Parameters
    ----------
    f, strict
        As for Krum.
    p : float or callable, round -> float
        The probability of averaging, in [0, 1]; by default ``1 / sqrt(t)``.
    seed : int, optional
        Seed of the draws, >= 0. Whoever knows it knows the rounds that average; None draws anew
        each time, and a strategy draws one for its run.

    Raises
    ------
    ValueError
        If f or seed is illegal, or p lies outside [0, 1].
    """

    p: float | Callable[[int], float] = inverse_square_root
    seed: int | None = None

    facts = Facts(
        source="Blanchard et al. 2017, Proposition 1, for the rounds that do not average",
        breakdown="0",
        cost="O(n^2 d)",
        invariances=ALL,
        kappa="none: a round that averages is anybody's (Lemma 1)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed is not None:
            whole_number("seed", self.seed, 0)
        if not callable(self.p):
            _check_probability(self.p)

    def averages(self, server_round: int) -> bool:
        """Say whether round t averages."""
        p = self.p(server_round) if callable(self.p) else self.p
        _check_probability(p)
        server_round = whole_number("server_round", server_round, 1)
        entropy = None if self.seed is None else [self.seed, server_round]
        return bool(np.random.default_rng(entropy).random() < p)

    def seeded(self, seed: int) -> Self:
        """Return the rule with a seed, unless it has one."""
        return replace(self, seed=seed) if self.seed is None else self

    @property
    def is_bounded(self) -> bool:
        """False: a round that averages is anybody's (Lemma 1)."""
        return False

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh all clients alike, or choose as Krum does."""
        if self.averages(server_round):
            return Average().choose(geometry, server_round)
        return super().choose(geometry, server_round)


def _check_probability(p: object) -> None:
    if not (isinstance(p, Real) and 0.0 <= float(p) <= 1.0):
        raise ValueError(f"p must be a probability in [0, 1], got {p!r}")
