"""How far from the mean of the honest a rule can be brought: a search for its worst input.

For an input of n rows, A what a rule makes of them, S any set of n - f of them, mean_S its mean and
V_S its mean squared distance from it::

    kappa = max over S of ||A - mean_S||^2 / V_S

The largest kappa of all inputs is the rule's coefficient of (f, kappa)-robustness (Allouah et al.,
AISTATS 2023). Whatever a search finds is a lower bound on it: the input is a witness, and anyone
can check it. What the search does not find proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flwr_krum.certificate import MOST_SETS
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.enclosure import Enclosure
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.worst_sets import figures_of
from flwr_krum.rules import Rule
from simulations.studies.evolution import climb
from simulations.studies.plain_geometry import aggregate_of
from simulations.studies.worst_inputs import (
    Blueprint,
    directed,
    draw_blueprint,
    draw_parameters,
    families,
)

FARTHEST = 1e4
"""Spreads of the honest within which all rows and the global model are: beyond, rounding shows."""

FAR = (10.0, 100.0, 1000.0)
"""How far a family of inputs is followed."""

GROWTH = 50.0
"""By how much kappa grows from one of these to the next, at least, where it has no bound."""

SURVEYED, CLIMBED, CLIMBED_ON = 0.2, 0.4, 0.3
"""Shares of the budget; what is left moves the best input's rows one by one."""

SHAPES, FINALISTS = 16, 4
"""How many blueprints are climbed, and how many of them to the end."""

LOSS = 1e-6
"""Share of kappa that an input of fewer digits may cost."""

MOVED = ", moved one by one"
"""What is said of an input whose rows were moved after its groups."""


@dataclass(frozen=True)
class Witness:
    """An input, and how far from the honest mean it brings a rule.

    Attributes
    ----------
    kappa : float
        What its rows say, whoever of them are the honest.
    rows : (n, d)
    shape : str
        In words.
    """

    kappa: float
    rows: Float64
    shape: str


@dataclass(frozen=True)
class Unbounded:
    """A family of inputs along which kappa goes to infinity.

    Attributes
    ----------
    family : str
        A name in `simulations.studies.worst_inputs.families`.
    kappas : tuple of float
        At the distances `FAR`.
    """

    family: str
    kappas: tuple[float, ...]


def kappa_of(rows: Float64, A: Float64, f: int) -> float:
    """Return the kappa of one input (n, d) and what was made of it, from a look at every set."""
    squared = ((rows[:, None] - rows) ** 2).sum(axis=2)
    heights = ((rows - A) ** 2).sum(axis=1)
    as_they_are = Enclosure(len(rows), False, squared, squared, heights, heights, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = figures_of(as_they_are, f, MOST_SETS, enough=0.0).worst
    return _ratio(rows[worst], A) if worst.size else 0.0


def _ratio(honest: Float64, A: Float64) -> float:
    """Return ``||A - mean||^2`` beside the mean squared distance of the honest rows from it."""
    mean = honest.mean(axis=0)
    off, spread = float(((A - mean) ** 2).sum()), float(((honest - mean) ** 2).sum(axis=1).mean())
    if spread > 0.0:
        return off / spread
    return math.inf if off > 0.0 else 0.0


def unbounded(rule: Rule, n: int, f: int) -> Unbounded | None:
    """Return a family of inputs along which kappa grows as the square of a distance, if one does.

    Parameters
    ----------
    rule : Rule
        Deterministic, for f of n.
    """
    for name, family in families(f).items():
        found = []
        for t in FAR:
            rows = family(n, f, t)
            found.append(kappa_of(rows, rule(rows).vector, f))
        if all(later > GROWTH * before for before, later in pairwise(found)):
            return Unbounded(name, tuple(found))
    return None


def search(rule: Rule, n: int, f: int, budget: int, seed: int) -> Witness:
    """Return the input of largest kappa that is found.

    Blueprints are drawn, the best of them climbed, and the rows of the best input moved one by
    one.

    Parameters
    ----------
    rule : Rule
        Deterministic, for f of n, with no rows of the server's.
    budget : int
        Inputs to try, about.
    seed : int
        Of all draws: the same seed finds the same.
    """
    rng = np.random.default_rng(seed)
    trials = _Trials(rule, f)
    with one_blas_thread(), np.errstate(all="ignore"):
        finalists = list(_surveyed(trials, n, int(SURVEYED * budget), rng))[:SHAPES]
        for share, keep, step in ((CLIMBED, SHAPES, 0.3), (CLIMBED_ON, FINALISTS, 0.1)):
            most = max(2, int(share * budget / min(keep, len(finalists))))
            climbed = [
                (*climb(trials.of(blueprint), start, step, most, rng), blueprint)
                for _, blueprint, start in finalists[:keep]
            ]
            climbed.sort(key=lambda found: -found[1])
            finalists = [(value, blueprint, best) for best, value, blueprint in climbed]
        _move_rows(trials, budget - trials.tried, rng)
        return _plain(trials)


class _Trials:
    """Inputs as they are tried, of which the best is remembered.

    A plain geometry in float64 makes an input's value quickly. Where that is the largest so far,
    the rule itself is asked, on whose order of what is nearly tied alone the result stands.
    """

    def __init__(self, rule: Rule, f: int) -> None:
        self.rule, self.f = rule, f
        self.tried = 0
        self.best = Witness(-math.inf, np.zeros((0, 0)), "")

    def of(self, blueprint: Blueprint) -> _Shaped:
        """Return the value of a blueprint's parameters."""
        return _Shaped(self, blueprint)

    def value(self, rows: Float64, shape: str) -> float:
        """Return ``||A - mean||^2 / V`` where the first f are the liars."""
        self.tried += 1
        honest = rows[self.f :]
        from_mean = ((rows - honest.mean(axis=0)) ** 2).sum(axis=1)
        far = max(float(from_mean.max()), float((rows**2).sum(axis=1).max()))
        if not far < FARTHEST**2 * float(from_mean[self.f :].mean()):
            return -math.inf
        value = _ratio(honest, aggregate_of(self.rule, rows))
        if value > self.best.kappa:
            sure = _ratio(honest, self.rule(rows).vector)
            if sure > self.best.kappa:
                self.best = Witness(sure, rows, shape)
        return value


@dataclass(frozen=True)
class _Shaped:
    trials: _Trials
    blueprint: Blueprint

    def __call__(self, parameters: Float64) -> float:
        return self.trials.value(self.blueprint.rows(parameters), str(self.blueprint))


def _surveyed(
    trials: _Trials, n: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[float, Blueprint, Float64]]:
    """Yield the best parameters of each blueprint that was tried, the best blueprint first."""
    best: dict[Blueprint, tuple[float, Float64]] = {}
    starts = directed(n, trials.f)
    while trials.tried < count:
        if starts:
            blueprint, parameters = starts.pop()
        else:
            blueprint = draw_blueprint(n, trials.f, rng)
            parameters = draw_parameters(blueprint, rng)
        value = trials.of(blueprint)(parameters)
        if blueprint not in best or value > best[blueprint][0]:
            best[blueprint] = value, parameters
    for blueprint, (value, parameters) in sorted(best.items(), key=lambda each: -each[1][0]):
        yield value, blueprint, parameters


def _move_rows(trials: _Trials, most: int, rng: np.random.Generator) -> None:
    """Move single rows of the best input to and fro while that makes its kappa larger."""
    n, d = trials.best.rows.shape
    steps = np.full(n, 0.1)
    for _ in range(most):
        i = int(rng.integers(n))
        rows = trials.best.rows.copy()
        before, spread = trials.best.kappa, float(rows[trials.f :].var(axis=0).sum())
        rows[i] += steps[i] * math.sqrt(spread / d) * rng.standard_normal(d)
        shape = trials.best.shape.removesuffix(MOVED) + MOVED
        trials.value(rows, shape)
        steps[i] *= 2.0 if trials.best.kappa > before else 0.8


def _plain(trials: _Trials) -> Witness:
    """Return the best input in units of the honest spread, with as few digits as it needs."""
    best, f = trials.best, trials.f
    rows = best.rows[:, np.ptp(best.rows, axis=0) > 0.0]
    rows = rows / math.sqrt(float(rows[f:].var(axis=0).sum()))
    for digits in range(2, 17):
        rounded = np.round(rows, digits) + 0.0
        kappa = kappa_of(rounded, trials.rule(rounded).vector, f)
        if kappa >= (1.0 - LOSS) * best.kappa:
            return Witness(kappa, rounded, best.shape)
    return Witness(kappa_of(rows, trials.rule(rows).vector, f), rows, best.shape)
