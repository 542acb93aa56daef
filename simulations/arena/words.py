"""The numbers of an arena as texts, the same on every page and in the terminal."""

from __future__ import annotations

from simulations.arena.results import Behind, Result, Score, Standing
from simulations.run.intervals import Interval, Outcome

NOTHING = "–"
CANNOT = "cannot run"


def accuracy(value: float | None) -> str:
    """Write an accuracy."""
    return NOTHING if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """Write a share."""
    return NOTHING if value is None else f"{value:.0%}"


def interval(found: Interval | None) -> str:
    """Write an interval without its mean."""
    return NOTHING if found is None else f"{found.low:.3f} to {found.high:.3f}"


def factor(value: float | None) -> str:
    """Write a factor."""
    return NOTHING if value is None else f"{value:.4g}"


def behind(found: Behind | None) -> str:
    """Write how far a rule is behind the best one, with a ? where the seeds do not tell."""
    if found is None or found.interval is None:
        return NOTHING
    mark = "?" if found.outcome == Outcome.UNKNOWN else ""
    return f"{found.interval.mean:.3f}{mark}"


def far(standing: Standing) -> str:
    """Write how far a rule's worst case is behind the best one, with its interval."""
    found = standing.behind
    if found is None:
        return "best" if standing.worst.last is not None else NOTHING
    return f"{behind(found)} ({interval(found.interval)})" if found.interval else behind(found)


def behind_in_full(found: Behind) -> str:
    """Write how far a rule is behind another one, the interval and what it says."""
    told = "behind" if found.outcome == Outcome.HOLDS else str(Outcome.UNKNOWN)
    mean = NOTHING if found.interval is None else f"{found.interval.mean:.3f}"
    return f"{mean} behind {found.best}, 95 % interval {interval(found.interval)}: {told}"


def outcome(result: Result) -> str:
    """Write what became of a pair: the last accuracy, or why there is none."""
    if not result.scores:
        return f"{CANNOT}: {result.reason}"
    if not result.destroyed:
        return accuracy(result.last)
    if result.destroyed == len(result.scores):
        return "destroyed"
    return f"destroyed {result.destroyed} of {len(result.scores)}"


def in_full(result: Result) -> list[str]:
    """Write all that is known of a pair, in lines."""
    lines = [f"{result.rule} against {result.attack}"]
    if not result.scores:
        return [*lines, outcome(result)]
    lines.append(f"last accuracy {outcome(result)}, 95 % interval {interval(result.last_interval)}")
    if result.behind is not None:
        lines.append(behind_in_full(result.behind))
    return [*lines, *map(_of_seed, result.scores)]


def _of_seed(score: Score) -> str:
    last = "destroyed" if score.last is None else accuracy(score.last)
    best = NOTHING if score.best is None else f"{accuracy(score.best)} in round {score.best_round}"
    more = "" if score.attack_success is None else f", backdoor {share(score.attack_success)}"
    if score.certified is not None:
        more += f", certificate held in {share(score.certified)}"
    if score.factor is not None:
        more += f", factor {factor(score.factor)}"
    return (
        f"seed {score.seed}: last {last}, best {best}, attackers {share(score.byzantine)} of the "
        f"selected, {score.skipped} rounds skipped{more}"
    )
