"""Verdicts: what the seeds say about a claim.

Every check gives one number per seed; two curves are compared seed by seed, since runs of one seed
share their split, shards and mini-batches. Over these numbers stands a two-sided 95 % Student t
interval (of logarithms for a ratio), over a share of seeds an exact binomial one, and only an
interval that lies on one side of the bound decides:

- holds: the whole interval keeps the bounds;
- does not hold: the whole interval breaks one;
- cannot be told: the interval holds both, or a number is missing.

A model whose loss is not finite is destroyed: its accuracy counts as that of chance.

A claim holds if all its checks do. With several checks this needs no correction: the chance that
all hold although one is false is at most that of the false one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from simulations.figures.rows import Row
from simulations.figures.statements import Check, Quantity, Statement
from simulations.run.intervals import (
    MOST_SEEDS,
    Interval,
    Outcome,
    outcome_of,
    seeds_to_tell,
    share_interval,
    t_interval,
)


@dataclass(frozen=True)
class Finding:
    """What the seeds say about a check.

    Attributes
    ----------
    check : Check
    seeds : int
        How many seeds had the number.
    interval : Interval or None
        None where fewer than two seeds had it.
    outcome : Outcome
    note : str
        Why it cannot be told and how many seeds would tell, or what was counted how; empty
        otherwise.
    """

    check: Check
    seeds: int
    interval: Interval | None
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about a claim."""

    statement: Statement
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """Holds if every check does; fails if one fails and none holds."""
        outcomes = {finding.outcome for finding in self.findings}
        if outcomes == {Outcome.HOLDS}:
            return Outcome.HOLDS
        if Outcome.FAILS not in outcomes:
            return Outcome.UNKNOWN
        return Outcome.PARTLY if Outcome.HOLDS in outcomes else Outcome.FAILS

    @property
    def is_too_short(self) -> bool:
        """Whether the runs ended before the rounds that every one of its checks looks at."""
        return all(finding.seeds == 0 for finding in self.findings)

    @property
    def rounds_needed(self) -> int:
        """The last of the rounds that its checks look at; 0 where they look at all there are."""
        checks = [finding.check for finding in self.findings]
        looks = [look for check in checks for look in (check.of, check.against) if look is not None]
        return max((look.window[1] for look in looks if look.window is not None), default=0)

    @property
    def sentence(self) -> str:
        """The outcome in words; what it is limited to where it is limited."""
        of = {
            outcome: [f.check.label for f in self.findings if f.outcome == outcome]
            for outcome in Outcome
        }
        listed = partial(_listed, total=len(self.findings))
        if self.outcome == Outcome.PARTLY:
            limits = f"{listed(of[Outcome.HOLDS])}; not for {listed(of[Outcome.FAILS])}"
            if unknown := of[Outcome.UNKNOWN]:
                limits += f"; {Outcome.UNKNOWN} for {listed(unknown)}"
            return f"{Outcome.PARTLY} {limits}"
        if self.outcome == Outcome.UNKNOWN and of[Outcome.HOLDS]:
            return f"{Outcome.UNKNOWN} for {listed(of[Outcome.UNKNOWN])}; holds for the rest"
        return str(self.outcome)


def verdicts_of(statements: Iterable[Statement], rows: Sequence[Row]) -> list[Verdict]:
    """Judge statements by the rows of one figure."""
    series = _by_curve(rows)
    return [
        Verdict(each, tuple(finding_of(check, series) for check in each.checks))
        for each in statements
    ]


Series = Mapping[tuple[str, str, float | None], Mapping[tuple[int, int], Mapping[int, Row]]]
"""Rows by (panel, curve, swept value), by (seed, fold), by round."""


def _by_curve(rows: Iterable[Row]) -> Series:
    series: dict[tuple[str, str, float | None], dict[tuple[int, int], dict[int, Row]]]
    series = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        series[row.panel, row.curve, row.swept][row.seed, row.fold][row.round] = row
    return series


def finding_of(check: Check, series: Series) -> Finding:
    """Judge one check."""
    try:
        of, other = _per_seed(check.of, series), _Numbers({}, set(), set())
        values = of.by_seed
        if check.against is not None:
            other = _per_seed(check.against, series)
            values = {
                seed: value / other.by_seed[seed] if check.ratio else value - other.by_seed[seed]
                for seed, value in values.items()
                if seed in other.by_seed
            }
    except _NotRunError as error:
        return Finding(check, 0, None, Outcome.UNKNOWN, str(error))
    numbers = list(values.values())
    if check.of.below is not None:
        interval = share_interval([number < check.of.below for number in numbers])
    else:
        interval = t_interval(numbers, check.ratio)
    if interval is not None:
        # Who never arrives took longer than the last round: on that side nothing is known.
        least = 0.0 if check.ratio else -math.inf
        interval = Interval(
            interval.mean,
            least if other.never else interval.low,
            math.inf if of.never else interval.high,
        )
    outcome = outcome_of(interval, check.at_least, check.at_most)
    notes = []
    if never := of.never | other.never:
        notes.append(f"never in {len(never)} seeds, counted as the last round")
    elif outcome == Outcome.UNKNOWN and check.of.below is None and len(numbers) > 1:
        notes.append(_asked_for(check, numbers))
    if destroyed := of.destroyed | other.destroyed:
        notes.append(f"destroyed in {len(destroyed)} seeds, counted as chance")
    return Finding(check, len(values), interval, outcome, "; ".join(notes))


def _asked_for(check: Check, numbers: Sequence[float]) -> str:
    """Say how many seeds would tell, from the spread of those that there are."""
    bounds = [bound for bound in (check.at_least, check.at_most) if math.isfinite(bound)]
    x = np.asarray(numbers)
    asked = (
        seeds_to_tell(list(np.log(x)), np.log(bounds).tolist())
        if check.ratio
        else seeds_to_tell(list(x), bounds)
    )
    wanted = f"{MOST_SEEDS:,} and more" if asked == MOST_SEEDS else str(asked)
    return f"{wanted} seeds would tell, 9 times in 10"


class _NotRunError(ValueError):
    """The rounds that a quantity is taken from were not run."""


class _Numbers(NamedTuple):
    """A quantity's number per seed, and the seeds that never reach it, or end with no model."""

    by_seed: dict[int, float]
    never: set[int]
    destroyed: set[int]


def _per_seed(quantity: Quantity, series: Series) -> _Numbers:
    """Return a quantity's number per seed: the mean over folds.

    A seed that never reaches a level has its last round for a number, and is named.
    """
    runs = series.get((quantity.panel, quantity.curve, quantity.swept), {})
    if not runs:
        raise _NotRunError(f"{quantity.curve!r} was not run")
    values: dict[int, list[float]] = defaultdict(list)
    found = _Numbers({}, set(), set())
    for (seed, _), rows in runs.items():
        last = max(rows)
        if quantity.window is not None:
            inside = _within(rows, *quantity.window)
            values[seed].append(float(np.mean([row.accuracy for row in inside])))
            if any(row.is_destroyed for row in inside):
                found.destroyed.add(seed)
            continue
        level = quantity.level or 0
        reached = [t for t, row in sorted(rows.items()) if t and row.accuracy >= level]
        values[seed].append(reached[0] if reached else last)
        if not reached:
            found.never.add(seed)
    found.by_seed.update({seed: float(np.mean(numbers)) for seed, numbers in values.items()})
    return found


def _within(rows: Mapping[int, Row], first: int, last: int) -> list[Row]:
    if max(rows) < last:
        raise _NotRunError(f"needs rounds {first} to {last}, {max(rows)} were run")
    return [row for t, row in rows.items() if first <= t <= last]


def _listed(labels: Sequence[str], total: int) -> str:
    """Name one or two checks, count more: the table beneath has them all."""
    return " · ".join(labels) if len(labels) < 3 else f"{len(labels)} of {total} checks"
