"""What a terminal shows: runs as they go, and choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from typer import Option

from simulations.run.config import RunConfig
from simulations.run.history import RoundRecord


def one_of(values: Sequence[str], help_: str) -> Any:
    """Return an option that takes one of several words."""
    return Option(click_type=click.Choice(values), help=help_)


def entries(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """Return rows of long texts one below the other: a name, then a line per further column.

    A table of as many columns would break words and numbers where a terminal is narrow.
    """
    parts: list[RenderableType] = [Text(title, style="bold underline")]
    for name, *texts in rows:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="dim", min_width=max(map(len, columns[1:])))
        grid.add_column()
        for column, text in zip(columns[1:], texts, strict=True):
            grid.add_row(column, Text(text))
        parts += [Text(), Text(name, style="bold"), Padding(grid, (0, 0, 0, 2))]
    return Group(*parts)


def _bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar: what is done, then columns of its own, then the time left."""
    description = TextColumn("{task.description:<20}", markup=False)
    return Progress(
        description, BarColumn(bar_width=24), *columns, TimeRemainingColumn(compact=True)
    )


def progress_bar() -> Progress:
    """Return a progress bar: round, accuracy, Byzantine clients among the selected, time left."""
    news = (TextColumn("{task.fields[accuracy]}"), TextColumn("{task.fields[selected]}"))
    return _bar(MofNCompleteColumn(), *news)


def add_run(progress: Progress, label: str, rounds: int) -> TaskID:
    """Give a run of so many rounds its line."""
    return progress.add_task(label, total=rounds, accuracy="", selected="")


def show(progress: Progress, line: TaskID, record: RoundRecord) -> None:
    """Bring a run's line up to date with a round."""
    news: dict[str, Any] = {}
    if record.accuracy is not None:
        news["accuracy"] = f"accuracy {record.accuracy:.3f}"
    if record.round > 0:
        news["selected"] = f"Byzantine {record.byzantine_selected} of {len(record.selected)}"
    progress.update(line, completed=record.round, **news)


@contextmanager
def rounds_bar(labels: Sequence[str], rounds: int) -> Iterator[Callable[[str, int], None]]:
    """Show a line per label, of so many rounds each; yield what hears (label, rounds done)."""
    with _bar(MofNCompleteColumn()) as progress:
        lines = {label: progress.add_task(label, total=rounds) for label in labels}

        def watch(label: str, done: int) -> None:
            progress.update(lines[label], completed=done)

        yield watch


@contextmanager
def all_runs_bar(
    label: str, configs: Sequence[RunConfig]
) -> Iterator[Callable[[str, RoundRecord], None]]:
    """Show one bar over the rounds of several runs; yield what hears of a round of a run folder."""
    finished = TextColumn("{task.fields[runs]} of " + f"{len(configs)} runs")
    rounds_done: dict[str, int] = {}
    with _bar(finished, MofNCompleteColumn(), TextColumn("rounds")) as progress:
        total = sum(config.num_server_rounds for config in configs)
        line = progress.add_task(label, total=total, runs=0)

        def observer(folder: str, record: RoundRecord) -> None:
            rounds_done[folder] = record.round
            runs = sum(rounds_done.get(c.run_dir) == c.num_server_rounds for c in configs)
            progress.update(line, completed=sum(rounds_done.values()), runs=runs)

        yield observer
