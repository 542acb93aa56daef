"""The page of an arena: a table per measure that sorts by any column, every seed on hover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr_krum.report_page.html import render_page
from flwr_krum.report_page.texts import shown
from simulations.arena.facts import READING, Facts
from simulations.arena.results import Result, Standing
from simulations.arena.words import (
    NOTHING,
    accuracy,
    behind,
    factor,
    in_full,
    interval,
    outcome,
    share,
)

_HERE = Path(__file__).parent

SHADES = 10
"""Steps of colour between the least and the greatest number of a table."""

DESTROYED, MISSING = -1.0, -2.0
"""Where cells without a number are sorted: below all numbers."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what it is sorted by, its colour, and what hovering shows."""

    text: str
    value: float
    look: str
    hint: str


@dataclass(frozen=True)
class Measure:
    """What a table shows of every result: a number, its text, and whether more is better."""

    title: str
    number: Callable[[Result], float | None]
    text: Callable[[Result], str]
    more_is_better: bool


def _distance(result: Result) -> float | None:
    """Return how far a rule is behind the best one, which is not behind."""
    if result.behind is None:
        return 0.0 if result.last is not None else None
    return result.behind.interval.mean if result.behind.interval else None


MEASURES = (
    Measure("Last accuracy", lambda r: r.last, outcome, True),
    Measure("Behind the best rule of the column, seed by seed (?: cannot be told)", _distance,
            lambda r: "best" if _distance(r) == 0.0 and not r.behind else behind(r.behind), False),
    Measure("Best accuracy", lambda r: r.best, lambda r: accuracy(r.best), True),
    Measure("Attackers among the selected", lambda r: r.byzantine, lambda r: share(r.byzantine),
            False),
    Measure("Rounds skipped", lambda r: r.skipped,
            lambda r: NOTHING if r.skipped is None else f"{r.skipped:.3g}", False),
    Measure("Rounds in which the certificate held", lambda r: r.certified,
            lambda r: share(r.certified), True),
    Measure("Factor that the attack chose, median over the rounds", lambda r: r.factor,
            lambda r: factor(r.factor), False),
)  # fmt: skip


def write_page(path: Path, standings: Sequence[Standing], facts: Facts) -> None:
    """Write the page as one HTML file."""
    html = render_page(
        _HERE,
        ("page.js",),
        attacks=[shown(result.attack) for result in standings[0].results],
        tables=[
            (measure.title, _table(measure, standings))
            for measure in MEASURES
            if any(measure.number(r) is not None for each in standings for r in each.results)
            or measure is MEASURES[0]
        ],
        facts=facts,
        reading=READING,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


def _table(measure: Measure, standings: Sequence[Standing]) -> list[tuple[str, list[Cell]]]:
    """Return the rows of a table: a rule and its cells, the worst case first where it has one."""
    numbers = [measure.number(r) for standing in standings for r in standing.results]
    found = [number for number in numbers if number is not None]
    bounds = (min(found, default=0.0), max(found, default=1.0))
    rows = []
    for standing in standings:
        cells = [_cell(measure, result, bounds) for result in standing.results]
        if measure is MEASURES[0]:
            cells = [_cell(measure, standing.worst, bounds, worst=True), *cells]
        rows.append((shown(standing.rule), cells))
    return rows


def _cell(
    measure: Measure, result: Result, bounds: tuple[float, float], worst: bool = False
) -> Cell:
    number, text = measure.number(result), measure.text(result)
    hint = "\n".join(shown(line) for line in in_full(result))
    if worst and result.scores:
        text = f"{text} ({interval(result.last_interval)}) under {shown(result.attack)}"
    if number is None:
        value, look = (DESTROYED, "destroyed") if result.scores else (MISSING, "missing")
        return Cell(text, value, look, hint)
    place = (number - bounds[0]) / ((bounds[1] - bounds[0]) or 1.0)
    shade = round(SHADES * (place if measure.more_is_better else 1.0 - place))
    return Cell(text, number, f"q{shade}", hint)
