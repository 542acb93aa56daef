"""What came of the runs of an arena: scores per seed, cells, and every rule's worst case.

A model whose loss is not finite in its last evaluation is destroyed: the labels that it still gives
are no accuracy.

Runs of one seed share split, model and mini-batches across the rules: how far a rule is behind the
best one is told seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flwr_krum.journal import read_journal
from simulations.arena.plan import NONE, Bout
from simulations.engines.kept import evaluations
from simulations.run.config import RunConfig
from simulations.run.history import JOURNAL_FILE, byzantine_share, read_history
from simulations.run.intervals import Interval, Outcome, outcome_of, t_interval


@dataclass(frozen=True)
class Score:
    """One run.

    Attributes
    ----------
    seed : int
    last : float or None
        Accuracy of the last model; None if it is destroyed.
    best : float or None
        The greatest accuracy of an evaluation with a finite loss, the initial model's included;
        None if there is none.
    best_round : int or None
        The first round that has it.
    byzantine : float or None
        Share of attackers among the selected of all rounds; None if nobody was ever selected.
    skipped : int
        Rounds in which the model did not move.
    attack_success : float or None
        Of a backdoor, in the last evaluation; None where there is none.
    certified : float or None
        Share of the rounds with a certificate in which it holds; None without any.
    factor : float or None
        The median over the rounds of what the attack chose; None of one that chooses none.
    run : str
        Name of the run's folder.
    """

    seed: int
    last: float | None
    best: float | None
    best_round: int | None
    byzantine: float | None
    skipped: int
    attack_success: float | None
    certified: float | None
    factor: float | None
    run: str


@dataclass(frozen=True)
class Behind:
    """How far a rule is behind the best one.

    Attributes
    ----------
    best : str
        The other rule.
    values : tuple of float or None
        Its last accuracy less the rule's, per seed; None where a model is destroyed.
    """

    best: str
    values: tuple[float | None, ...]

    @property
    def interval(self) -> Interval | None:
        """The mean and its interval; None if a seed has no difference, or there is one seed."""
        values = [value for value in self.values if value is not None]
        return t_interval(values) if len(values) == len(self.values) else None

    @property
    def outcome(self) -> Outcome:
        """Whether it is behind at all: holds if the whole interval is above 0."""
        return outcome_of(self.interval, math.ulp(0.0), math.inf)


@dataclass(frozen=True)
class Result:
    """A rule against an attack: a score per seed, or why there is none."""

    rule: str
    attack: str
    scores: tuple[Score, ...]
    reason: str = ""
    behind: Behind | None = None
    """The best rule under the same attack; None of itself, and where there is no number."""

    @property
    def destroyed(self) -> int:
        """How many of the seeds end with a destroyed model."""
        return sum(score.last is None for score in self.scores)

    @property
    def last(self) -> float | None:
        """Mean over the seeds of the last accuracy; None if a seed has none."""
        return _mean([score.last for score in self.scores])

    @property
    def last_interval(self) -> Interval | None:
        """Its interval; None if a seed has no last accuracy, or there is one seed."""
        values = [score.last for score in self.scores if score.last is not None]
        return t_interval(values) if len(values) == len(self.scores) else None

    @property
    def best(self) -> float | None:
        """Mean over the seeds of the best accuracy; None if a seed has none."""
        return _mean([score.best for score in self.scores])

    @property
    def byzantine(self) -> float | None:
        """Mean over the seeds, of those that have it, of the attackers' share of the selected."""
        return _mean([score.byzantine for score in self.scores if score.byzantine is not None])

    @property
    def certified(self) -> float | None:
        """Mean over the seeds, of those that have it, of the share of rounds that are certain."""
        return _mean([score.certified for score in self.scores if score.certified is not None])

    @property
    def factor(self) -> float | None:
        """Median over the seeds of the factor; None if a seed has none."""
        found = [score.factor for score in self.scores if score.factor is not None]
        return float(np.median(found)) if found and len(found) == len(self.scores) else None

    @property
    def skipped(self) -> float | None:
        """Mean over the seeds of the rounds without a step."""
        return _mean([float(score.skipped) for score in self.scores])

    @property
    def order(self) -> tuple[float, float]:
        """How good it is, to compare: a destroyed model is worse than any accuracy."""
        if not self.scores:
            return (-np.inf, 0.0)
        return (float(-self.destroyed), 0.0 if self.last is None else self.last)


@dataclass(frozen=True)
class Standing:
    """A rule, its results in the order of the attacks, and the worst of them."""

    rule: str
    results: tuple[Result, ...]
    behind: Behind | None = None
    """The best rule's worst case; None of itself, and where there is no number."""

    @property
    def worst(self) -> Result:
        """The worst result under attack; that without one if there is no other."""
        attacked = [result for result in self.results if result.attack != NONE]
        return min(attacked or self.results, key=lambda result: result.order)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(values) else None


def standings_of(bouts: Iterable[Bout]) -> list[Standing]:
    """Return the rules, that with the best worst case first, those that cannot run last."""
    results: dict[str, list[Result]] = {}
    for bout in bouts:
        scores = tuple(score_of(config) for config in bout.configs)
        result = Result(bout.rule, bout.attack, scores, bout.reason)
        results.setdefault(bout.rule, []).append(result)
    columns = [_compared(column) for column in zip(*results.values(), strict=True)]
    standings = [Standing(row[0].rule, row) for row in zip(*columns, strict=True)]
    standings.sort(key=lambda standing: standing.worst.order, reverse=True)
    worst = _compared([standing.worst for standing in standings])
    return [
        replace(standing, behind=result.behind)
        for standing, result in zip(standings, worst, strict=True)
    ]


def _compared(results: Sequence[Result]) -> list[Result]:
    """Return results, of a rule each, with how far they are behind the best of them."""
    best = max(results, key=lambda result: result.order)
    return [replace(result, behind=_behind(result, best)) for result in results]


def _behind(result: Result, best: Result) -> Behind | None:
    if result.rule == best.rule or not result.scores or best.last is None:
        return None
    pairs = zip(best.scores, result.scores, strict=True)
    return Behind(
        best.rule,
        tuple(
            None if high.last is None or low.last is None else high.last - low.last
            for high, low in pairs
        ),
    )


def score_of(config: RunConfig) -> Score:
    """Read the score of a finished run, which may have gone on for more rounds than these."""
    evaluated = evaluations(config)
    sound = [record for record in evaluated if record.loss is not None]
    best = max(sound, key=lambda record: record.accuracy or 0.0, default=None)
    rounds = read_history(Path(config.run_dir))[1 : config.num_server_rounds + 1]
    end = evaluated[-1]
    return Score(
        seed=config.settings.seed,
        last=None if end.loss is None else end.accuracy,
        best=best.accuracy if best else None,
        best_round=best.round if best else None,
        byzantine=byzantine_share(
            config.byzantine_clients(), (record.selected for record in rounds)
        ),
        skipped=sum(not record.stepped for record in rounds),
        attack_success=end.attack_success,
        certified=_certified(config) if config.certificate else None,
        factor=_median(record.factor for record in rounds),
        run=Path(config.run_dir).name,
    )


def _certified(config: RunConfig) -> float | None:
    """Return in which share of the rounds with a certificate it holds."""
    verdicts = [
        report.certificate.verdict
        for report in read_journal(Path(config.run_dir) / JOURNAL_FILE)
        if report.certificate and report.server_round <= config.num_server_rounds
    ]
    return float(np.mean([verdict == "holds" for verdict in verdicts])) if verdicts else None


def _median(values: Iterable[float | None]) -> float | None:
    """Return the median of what is there."""
    found = [value for value in values if value is not None]
    return float(np.median(found)) if found else None
