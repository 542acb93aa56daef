"""Searches for one factor g >= 0 at which a damage is largest: a better one, and two of others.

The damage of an attack against a robust rule is neither concave nor unimodal in its factor: a rule
that selects takes the attackers on some stretches of factors, and drops them between.

Sources: ByzantineMomentum (El Mhamdi, Guerraoui, Rouault, ICLR 2021), ``line_maximize``; ByzFL
0.0.11, ``Optimal_InnerProductManipulation``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import numpy as np


class Trial(NamedTuple):
    """What a candidate does, and the pattern of the rule's choice: who is taken for what."""

    damage: float
    pattern: Hashable = None


Try: TypeAlias = Callable[[float], Trial]
"""Maps a factor to what it does."""

Seeker: TypeAlias = Literal["grid", "byzfl", "byzantine-momentum"]
"""Whose search it is."""

LEAST, LARGEST = 2.0**-6, 2.0**10
"""The factors between which a grid lies; beside them there is 0."""

PER_OCTAVE = 8
"""Points of a grid from one factor to twice that."""

PEAKS = 4
"""Local maxima of a grid around which it is refined by golden section."""

WORTH = 0.75
"""The share of the way from the least damage to the largest below which nothing is refined."""

BETWEEN = 5
"""Points that are tried between two of a grid at which the rule chooses differently."""

HIGHEST = 12
"""Intervals of a grid that are looked into whatever the rule chooses, those of largest damage."""

SHARP = 1e-6
"""How far, of itself or of the least, a refined factor may be from the best one near it."""

ROUNDING = 1e-12
"""By how much, of itself, a damage must be larger to be so at all."""

_GOLDEN = (5.0**0.5 - 1.0) / 2.0


class Noted:
    """Trials of factors, kept, so that nothing is worked out twice."""

    def __init__(self, attempt: Try) -> None:
        self._attempt = attempt
        self.trials: dict[float, Trial] = {}

    def __call__(self, factor: float) -> float:
        """Return the damage."""
        return self.at(factor).damage

    def at(self, factor: float) -> Trial:
        """Return what a factor does."""
        if factor not in self.trials:
            self.trials[factor] = self._attempt(factor)
        return self.trials[factor]

    def is_better(self, factor: float, other: float) -> bool:
        """Say whether a factor does more than another, and not by rounding."""
        new, old = self(factor), self(other)
        return new > old + ROUNDING * abs(old) if np.isfinite(old) else new > old

    def seen(self) -> tuple[list[float], list[float]]:
        """Return the factors that were tried, in order, and their damages."""
        factors = sorted(self.trials)
        return factors, [self(factor) for factor in factors]

    def best(self, count: int) -> list[float]:
        """Return the ``count`` factors of largest damage, the smaller of equals first."""

        def place(factor: float) -> tuple[float, float]:
            return -float(f"{self(factor):.11e}"), factor

        return sorted(self.trials, key=place)[:count]


def grid(per_octave: int = PER_OCTAVE) -> list[float]:
    """Return 0 and a geometric grid of factors."""
    octaves = round(np.log2(LARGEST / LEAST))
    return [0.0, *(LEAST * 2.0 ** (k / per_octave) for k in range(octaves * per_octave + 1))]


def by_grid(noted: Noted, per_octave: int = PER_OCTAVE, peaks: int = PEAKS) -> float:
    """Look at a geometric grid, then more closely where the most can be between its points.

    While a rule gives the same clients the same weights, the damage is convex in the factor, and
    largest where the rule changes its mind: more points are tried where that happens, and where
    most is done. Where it is worth it such places are bisected, and looked at from both sides.
    Where weights vary, golden section goes on from the highest local maxima.
    """
    coarse = [(max(noted(a), noted(b)), a, b) for a, b in pairwise(grid(per_octave))]
    nearby = sorted(coarse, key=lambda each: (-each[0], each[1]))[:HIGHEST]
    for each in coarse:
        _, low, high = each
        if each in nearby or noted.at(low).pattern != noted.at(high).pattern:
            for factor in np.linspace(low, high, BETWEEN + 2).tolist():
                noted(factor)
    points, values = noted.seen()
    top = max(values)
    if not np.isfinite(top):
        return noted.best(1)[0]
    enough = top - (1.0 - WORTH) * (top - min(value for value in values if np.isfinite(value)))
    for low, high in pairwise(points):
        if max(noted(low), noted(high)) >= enough:
            _bisect(noted, low, high)
    points, values = noted.seen()
    for i in _peaks(values)[:peaks]:
        if values[i] >= enough:
            _golden(noted, points[max(0, i - 1)], points[i], points[min(i + 1, len(points) - 1)])
    return noted.best(1)[0]


def _bisect(noted: Noted, low: float, high: float) -> None:
    """Look at both sides of a place between two factors where the rule's choice changes."""
    before, after = noted.at(low).pattern, noted.at(high).pattern
    while before != after and high - low > SHARP * max(high, LEAST):
        middle = (low + high) / 2.0
        # Where a third choice lies between, the side that may do more is followed.
        if (here := noted.at(middle).pattern) == before or (
            here != after and noted(high) > noted(low)
        ):
            low, before = middle, here
        else:
            high, after = middle, here


def _peaks(values: list[float]) -> list[int]:
    """Return where local maxima are, the highest first; both ends of one that is flat."""
    fenced = [-np.inf, *values, -np.inf]
    found = [
        i
        for i, value in enumerate(values)
        if value >= fenced[i] and value >= fenced[i + 2] and value > min(fenced[i], fenced[i + 2])
    ]
    return sorted(found, key=lambda i: (-values[i], i))


def _golden(noted: Noted, low: float, middle: float, high: float) -> None:
    """Narrow the factors between which the largest damage lies, from each side of the middle."""
    while high - low > SHARP * max(high, LEAST):
        right = high - middle > middle - low
        wide = high - middle if right else low - middle
        new = middle + (1.0 - _GOLDEN) * wide
        if new in (low, middle, high):
            return
        if noted.is_better(new, middle):
            low, middle, high = (middle, new, high) if right else (low, new, middle)
        else:
            low, high = (low, new) if right else (new, high)


def by_byzfl(noted: Noted, evaluations: int = 20, step: float = 10.0, ratio: float = 0.8) -> float:
    """Double the step while that is better, then try shorter steps beyond the best.

    As ByzFL has it: no factor between the last two of the expansion is looked at.
    """
    best, step, left = _expanded(noted, evaluations, step, ratio)
    for _ in range(left):
        if noted.is_better(best + step, best):
            best += step
        step *= ratio
    return best


def by_byzantine_momentum(
    noted: Noted, evaluations: int = 16, step: float = 1.0, ratio: float = 0.8
) -> float:
    """Double the step while that is better, then walk with shorter steps towards the best."""
    best, step, left = _expanded(noted, evaluations, step, ratio)
    at = max(noted.trials)
    for _ in range(left):
        if at < best:
            at += step
        else:
            back = at - step
            while back < 0.0:
                back = (back + at) / 2.0
            at = back
        if noted.is_better(at, best):
            best = at
        step *= ratio
    return best


def _expanded(
    noted: Noted, evaluations: int, step: float, ratio: float
) -> tuple[float, float, int]:
    """Return the best factor of an expansion from 0, the next step, and what is left to try."""
    best = 0.0
    for left in reversed(range(evaluations - 1)):
        if not noted.is_better(best + step, best):
            return best, step * ratio, left
        best, step = best + step, 2.0 * step
    return best, step, 0


SEEKERS: dict[Seeker, Callable[[Noted], float]] = {
    "grid": by_grid,
    "byzfl": by_byzfl,
    "byzantine-momentum": by_byzantine_momentum,
}
"""The searches, by name; they return the best factor."""
