"""The farthest step against the way of the model that Krum takes. Source: Fang et al., 2020."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Knowledge, Scene
from flwr_krum.attacks.search import Search, finite_rows, mean_of
from flwr_krum.checks import number, one_of
from flwr_krum.kernel.arrays import Float64

Known: TypeAlias = Literal["full", "partial"]
By: TypeAlias = Literal["grid", "halving"]
Takes: TypeAlias = Callable[[float], bool]
"""Says whether Krum takes the attackers' vector at a lambda."""

LEAST = 1e-5
"""The lambda below which halving ends."""

POINTS = 400
"""Points of a grid up to the bound; the same number of ratios below it."""


@dataclass(frozen=True)
class FangKrum(Attack):
    """Send ``w - lambda s`` with the largest lambda at which Krum takes it, s the way of the model.

    ``s = sign(mean of the known updates)``; all others send the same, or within a ball around it.
    Beyond the paper's bound Krum takes no such vector. The rule is tried where one is seen that
    takes a single client as Krum does, and Krum itself otherwise, on the known rows with f copies
    after them; ties go to the honest. As updates: the vector is ``-lambda s`` whatever w is.

    Parameters
    ----------
    known : "full" | "partial" (default: "full")
        Whether every honest update is known, or those of the attackers alone: then Krum is tried
        on these, with 1, 2, up to f copies, until it takes one.
    search : "grid" | "halving" (default: "grid")
        Halving is the paper's, from the bound until Krum takes the vector or lambda < 1e-5, which
        is then sent. Krum takes it on some stretches of lambda only: a grid, with bisection at
        the end of the last such stretch, finds the largest; where it takes none, w is sent.
    eps : float (default: 0)
        Radius of the ball in which all but one attackers draw, in the models' unit.

    Raises
    ------
    ValueError
        If there is no such knowledge or search, or eps is negative or not finite.
    """

    known: Known = "full"
    search: By = "grid"
    eps: float = 0.0

    facts = AttackFacts(
        source="Fang, Cao, Jia, Gong, USENIX Security 2020 (Krum)",
        formula="w - lambda s, s = sign(mean update), the largest lambda at which Krum takes it",
        breaks="Krum",
        resists="trimmed mean and median; rules that average many clients; NNM before Krum",
        differs="FLPoison and velocity-fl: the sign of weights instead of updates, from 1; "
        "CRYPTO-KU: -lambda s without w, up to 10 mean norms; NDSS21: n - 2 - f honest neighbours "
        "in the bound; all halve, which need not find any lambda",
    )

    def __post_init__(self) -> None:
        one_of("known", self.known, ("full", "partial"))
        one_of("search", self.search, ("grid", "halving"))
        number("eps", self.eps, least=0.0)

    @property
    def knowledge(self) -> Knowledge:  # type: ignore[override]
        """All, or that of the attackers."""
        return "all" if self.known == "full" else "colluding"

    def factor(self, scene: Scene) -> float:
        """Return lambda."""
        honest = finite_rows(scene.honest)
        away = -np.sign(mean_of(honest))
        unit = float(np.abs(honest).max(initial=0.0)) or 1.0
        counts = [scene.f] if self.known == "full" else range(1, scene.f + 1)
        found = None
        for copies in counts:
            takes = self._taker(scene, honest, away, copies)
            bound = unit * bound_on_factor(honest / unit, copies)
            found = _by_grid(takes, bound) if self.search == "grid" else _by_halving(takes, bound)
            if takes(found):
                break
        assert found is not None  # there is at least one attacker
        return found

    def _taker(self, scene: Scene, honest: Float64, away: Float64, copies: int) -> Takes:
        """Return how it is told whether a vector is taken."""
        if self.known == "full" and scene.rule is not None:
            try:
                search = Search(scene, away[None, :])
            except ValueError:  # a rule that cannot run says nothing
                return _krum(honest, away, copies)
            start = np.eye(search.p)[-1]
            if _takes_one(search.weights(0.0 * start)):
                return lambda factor: _is_attackers(search.weights(factor * start), len(honest))
        return _krum(honest, away, copies)

    def rows(self, scene: Scene) -> Float64:
        """Return a row for each attacker: the vector, and the same or what lies near it."""
        factor = self.factor(scene)
        scene.note_factor(factor)
        row = -factor * np.sign(mean_of(finite_rows(scene.honest)))
        rows = np.tile(row, (scene.f, 1))
        if self.eps > 0.0 and scene.f > 1:
            d = len(row)
            ways = scene.rng.standard_normal((scene.f - 1, d))
            ways /= np.linalg.norm(ways, axis=1, keepdims=True)
            rows[1:] += self.eps * scene.rng.random((scene.f - 1, 1)) ** (1.0 / d) * ways
        return rows


def bound_on_factor(honest: Float64, f: int) -> float:
    """Return the paper's bound on lambda, for n = h + f.

    ``min_i (sum of the n - f - 2 smallest ||u_i - u_j||) / ((n - 2f - 1) sqrt(d)) +
    max_i ||u_i|| / sqrt(d)``; with as few clients as leave neither, at least one of each.
    """
    h, d = honest.shape
    apart = np.sort(np.sqrt(_squared(honest)), axis=1)[:, 1 : max(1, h - 2) + 1].sum(axis=1)
    longest = float(np.linalg.norm(honest, axis=1).max())
    return float(apart.min() / max(1, h - f - 1) + longest) / float(np.sqrt(d))


def _squared(rows: Float64) -> Float64:
    """Return squared distances (h, h)."""
    centred = rows - mean_of(rows)
    products = centred @ centred.T
    own = np.diagonal(products)
    squared = np.maximum(own[:, None] + own[None, :] - 2.0 * products, 0.0)
    np.fill_diagonal(squared, 0.0)
    return squared


def _krum(honest: Float64, away: Float64, copies: int) -> Takes:
    """Return whether Krum, told of so many liars, takes copies of ``factor * away``."""
    unit = float(np.abs(honest).max(initial=0.0)) or 1.0
    u = honest / unit
    among, own, along = _squared(u), (u * u).sum(axis=1), u @ away
    length, neighbours = float(away @ away), max(1, len(u) - 2)

    def takes(factor: float) -> bool:
        g = factor / unit
        towards = np.maximum(own - 2.0 * g * along + g * g * length, 0.0)
        others = np.hstack([among, np.tile(towards[:, None], (1, copies))])
        scores = np.sort(others, axis=1)[:, 1 : neighbours + 1].sum(axis=1)
        nearest = np.sort(np.append(np.zeros(copies - 1), towards))[:neighbours]
        return bool(nearest.sum() < scores.min())

    return takes


def _takes_one(weights: Float64 | None) -> bool:
    """Say whether a rule takes a single client, as Krum does."""
    return weights is not None and sorted(weights)[-1] == 1.0 and np.count_nonzero(weights) == 1


def _is_attackers(weights: Float64 | None, h: int) -> bool:
    """Say whether an attacker has all the weight."""
    return weights is not None and bool(weights[h:].sum() > 0.5)


def _by_halving(takes: Takes, bound: float) -> float:
    """Return the first of the bound and its halves that is taken; the first < 1e-5 if none is."""
    factor = bound
    while factor >= LEAST and not takes(factor):
        factor /= 2.0
    return factor


def _by_grid(takes: Takes, bound: float) -> float:
    """Return the largest factor that is taken, as a grid has it and bisection; 0 if none is."""
    even = np.linspace(0.0, bound, POINTS + 1)
    points = np.unique(np.concatenate([even, bound * 2.0 ** (-np.arange(POINTS) / 8.0)])).tolist()
    last = next((i for i in reversed(range(len(points))) if takes(points[i])), None)
    if last is None:
        return 0.0
    if last == len(points) - 1:
        return bound
    low, high = points[last], points[last + 1]
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if takes(middle) else (low, middle)
    return float(low)
