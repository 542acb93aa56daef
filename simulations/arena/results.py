"""What came of the runs of an arena: scores per seed, cells, and every rule's worst case.

A model whose loss is not finite in its last evaluation is destroyed: the labels that it still gives
are no accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulations.arena.plan import NONE, Bout
from simulations.engines.kept import evaluations
from simulations.run.config import RunConfig
from simulations.run.history import byzantine_share, read_history
from simulations.run.intervals import Interval, t_interval


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
    run: str


@dataclass(frozen=True)
class Result:
    """A rule against an attack: a score per seed, or why there is none."""

    rule: str
    attack: str
    scores: tuple[Score, ...]
    reason: str = ""

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
    standings = [Standing(rule, tuple(found)) for rule, found in results.items()]
    return sorted(standings, key=lambda standing: standing.worst.order, reverse=True)


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
        run=Path(config.run_dir).name,
    )
