"""What a terminal shows while runs go."""

from __future__ import annotations

from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from simulations.run.history import RoundRecord


def progress_bar() -> Progress:
    """Return a progress bar: round, accuracy, Byzantine clients among the selected, time left."""
    return Progress(
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TextColumn("{task.fields[selected]}"),
        TimeRemainingColumn(compact=True),
    )


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
