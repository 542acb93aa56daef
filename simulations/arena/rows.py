"""The numbers of an arena as CSV: a row per rule, attack and seed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from simulations.arena.results import Result, Standing
from simulations.arena.words import outcome

COLUMNS = (
    *("rule", "attack", "seed", "outcome", "last_accuracy", "best_accuracy", "best_round"),
    *("byzantine_share", "rounds_skipped", "attack_success", "certified_share", "factor"),
    *("best_rule", "behind", "behind_low", "behind_high", "run"),
)


def write_rows(path: Path, standings: Iterable[Standing]) -> None:
    """Write the rows under a header: seven digits, and an empty cell where there is no number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for standing in standings:
            for result in standing.results:
                writer.writerows(_rows(result))


def _rows(result: Result) -> Iterator[list[str]]:
    if not result.scores:
        empty = [""] * (len(COLUMNS) - 4)
        yield [result.rule, result.attack, "", outcome(result), *empty]
    behind = result.behind
    interval = behind.interval if behind else None
    ends = (interval.low, interval.high) if interval else (None, None)
    for i, score in enumerate(result.scores):
        paired = (behind.best, behind.values[i]) if behind else (None, None)
        values = (
            *(score.seed, "destroyed" if score.last is None else "ran"),
            *(score.last, score.best, score.best_round, score.byzantine, score.skipped),
            *(score.attack_success, score.certified, score.factor),
            *(*paired, *ends, score.run),
        )
        yield [result.rule, result.attack, *map(_cell, values)]


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)
