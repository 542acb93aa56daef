"""What came of the runs of a published table, in its own measure and in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.engines.kept import evaluations
from simulations.published.table import Equal, Printed
from simulations.run.config import RunConfig
from simulations.run.intervals import Interval, t_interval

ROUNDING = 1e-9
"""Of a difference of decimal numbers: .61 - .59 is .02."""


@dataclass(frozen=True)
class Curves:
    """The accuracies of the runs under one attack: (seeds, evaluations)."""

    attack: str
    accuracies: NDArray[np.float64]

    @property
    def last(self) -> NDArray[np.float64]:
        """The last accuracy of each seed."""
        last: NDArray[np.float64] = self.accuracies[:, -1]
        return last

    def measured(self, measure: str) -> float:
        """Return the number of `simulations.published.table.MEASURES` that is asked for."""
        mean = self.accuracies.mean(axis=0)
        return float(mean[-1] if measure == "last" else mean.max())


@dataclass(frozen=True)
class Cell:
    """A printed number and ours.

    Attributes
    ----------
    printed : Printed
    found : float
        In the table's measure; of several attacks the least.
    under : str
        The attack that has it.
    last : float
        The mean of the last accuracies, of several attacks the least.
    lasts, maxima : tuple of float
        Per seed, under that attack: the last accuracy, and the greatest.
    """

    printed: Printed
    found: float
    under: str
    last: float
    lasts: tuple[float, ...]
    maxima: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Ours less the printed number."""
        return self.found - self.printed.value

    @property
    def agrees(self) -> bool:
        """Whether ours is as near as the table asks for."""
        return abs(self.difference) <= self.printed.within + ROUNDING

    @property
    def interval(self) -> Interval | None:
        """That of the last accuracies; None of one seed."""
        return t_interval(self.lasts)


@dataclass(frozen=True)
class Likeness:
    """Whether a rule ends under an attack with the accuracies that it has under another one."""

    part: str
    rule: str
    attack: str
    like: str
    seeds: int
    same: int

    @property
    def holds(self) -> bool:
        """Whether every seed does."""
        return self.same == self.seeds


def curves_of(attack: str, configs: Sequence[RunConfig]) -> Curves:
    """Read the evaluations of finished runs, one per seed."""
    return Curves(
        attack, np.array([[record.accuracy for record in evaluations(c)] for c in configs], float)
    )


def cell_of(printed: Printed, curves: Sequence[Curves], measure: str) -> Cell:
    """Compare a printed number with the curves under its attacks."""
    worst = min(curves, key=lambda each: each.measured(measure))
    return Cell(
        printed,
        found=worst.measured(measure),
        under=worst.attack,
        last=min(float(each.last.mean()) for each in curves),
        lasts=tuple(worst.last.tolist()),
        maxima=tuple(worst.accuracies.max(axis=1).tolist()),
    )


def likenesses_of(
    part: str, equal: Equal, curves: Mapping[tuple[str, str], Curves]
) -> list[Likeness]:
    """Compare the last accuracies of each rule under each attack, by (rule, attack)."""
    found = []
    for rule in equal.rules:
        like = curves[rule, equal.like].last
        for attack in equal.attacks:
            same = int((curves[rule, attack].last == like).sum())
            found.append(Likeness(part, rule, attack, equal.like, len(like), same))
    return found
