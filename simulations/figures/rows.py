"""The raw numbers of a figure: one tidy row per evaluated round of every run."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One evaluated round of one run.

    Attributes
    ----------
    figure, panel, curve : str
        Where it is drawn; ``panel`` is empty in a figure of one panel.
    swept : float or None
        Value of what the figure sweeps over, if it does.
    batch, seed, fold, round : int
        Mini-batch, and which evaluation of which run; round 0 is the initial model.
    accuracy : float
        On the run's test set; chance where the model is destroyed.
    loss : float or None
        None where it was not finite: the model is destroyed.
    """

    figure: str
    panel: str
    curve: str
    swept: float | None
    batch: int
    seed: int
    fold: int
    round: int
    accuracy: float
    loss: float | None

    @property
    def is_destroyed(self) -> bool:
        """Whether there is no model to speak of."""
        return self.loss is None


COLUMNS = tuple(field.name for field in fields(Row))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV under a header: seven digits, and an empty cell for None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in rows)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)
