"""Verdicts: what the seeds say about a claim.

Every check gives one number per seed; two curves are compared seed by seed, since runs of one seed
share their split, shards and mini-batches. Over these numbers stands a two-sided 95 % Student t
interval (of logarithms for a ratio), and only an interval that lies on one side of the bound
decides:

- holds: the whole interval keeps the bounds;
- does not hold: the whole interval breaks one;
- cannot be told: the interval holds both, or a number is missing.

A claim holds if all its checks do. With several checks this needs no correction: the chance that
all hold although one is false is at most that of the false one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from simulations.figures.rows import Row
from simulations.figures.statements import Check, Quantity, Statement
from simulations.run.intervals import Interval, Outcome, outcome_of, t_interval


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
        Why it cannot be told, or what was counted how; empty otherwise.
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


Series = Mapping[tuple[str, str, float | None], Mapping[tuple[int, int], Mapping[int, float]]]
"""Accuracies by (panel, curve, swept value), by (seed, fold), by round."""


def _by_curve(rows: Iterable[Row]) -> Series:
    series: dict[tuple[str, str, float | None], dict[tuple[int, int], dict[int, float]]]
    series = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        series[row.panel, row.curve, row.swept][row.seed, row.fold][row.round] = row.accuracy
    return series


def finding_of(check: Check, series: Series) -> Finding:
    """Judge one check."""
    try:
        values, late = _per_seed(check.of, series)
        soon: set[int] = set()
        if check.against is not None:
            others, soon = _per_seed(check.against, series)
            values = {
                seed: value / others[seed] if check.ratio else value - others[seed]
                for seed, value in values.items()
                if seed in others
            }
    except _NotRunError as error:
        return Finding(check, 0, None, Outcome.UNKNOWN, str(error))
    interval = t_interval(list(values.values()), check.ratio)
    if interval is not None:
        # Who never arrives took longer than the last round: on that side nothing is known.
        least = 0.0 if check.ratio else -math.inf
        interval = Interval(
            interval.mean, least if soon else interval.low, math.inf if late else interval.high
        )
    outcome = outcome_of(interval, check.at_least, check.at_most)
    note = f"never in {len(late | soon)} seeds, counted as the last round" if late | soon else ""
    return Finding(check, len(values), interval, outcome, note)


class _NotRunError(ValueError):
    """The rounds that a quantity is taken from were not run."""


def _per_seed(quantity: Quantity, series: Series) -> tuple[dict[int, float], set[int]]:
    """Return a quantity's number per seed (the mean over folds), and the seeds that lack one.

    A seed that never reaches a level has its last round for a number, and is named.
    """
    runs = series.get((quantity.panel, quantity.curve, quantity.swept), {})
    if not runs:
        raise _NotRunError(f"{quantity.curve!r} was not run")
    values: dict[int, list[float]] = defaultdict(list)
    never = set()
    for (seed, _), accuracies in runs.items():
        last = max(accuracies)
        if quantity.window is not None:
            values[seed].append(_window_mean(accuracies, *quantity.window))
            continue
        reached = [t for t, a in sorted(accuracies.items()) if t and a >= (quantity.level or 0)]
        values[seed].append(reached[0] if reached else last)
        if not reached:
            never.add(seed)
    return {seed: float(np.mean(numbers)) for seed, numbers in values.items()}, never


def _window_mean(accuracies: Mapping[int, float], first: int, last: int) -> float:
    if max(accuracies) < last:
        raise _NotRunError(f"needs rounds {first} to {last}, {max(accuracies)} were run")
    return float(np.mean([a for t, a in accuracies.items() if first <= t <= last]))


def _listed(labels: Sequence[str], total: int) -> str:
    """Name one or two checks, count more: the table beneath has them all."""
    return " · ".join(labels) if len(labels) < 3 else f"{len(labels)} of {total} checks"
