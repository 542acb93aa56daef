"""A table in a file of the user's own: numbers, and one column that is the label."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.tasks.files import READ_ERRORS, DataError
from clients.tasks.tables import Table, table_task
from clients.tasks.task import Task

EXPECTED = "rows of numbers and a label, separated by commas"
_WAY_OUT = "See docs/own-parts.md."


@dataclass(frozen=True)
class CsvFile:
    """Load a table; features are standardised with the statistics of the training rows.

    The first line is a header if a cell of it, beside the label's, is no number. Commas,
    semicolons or tabs separate cells: what the first line has most of. Labels may be numbers or
    words; their sorted values are the classes.

    Parameters
    ----------
    path : str
        Compressed if it ends in ".gz".
    label : str or int (default: "last")
        The label's column: "first", "last", its name in the header, or its number from 0.
    """

    path: str
    label: str | int = "last"

    def __call__(self, folder: Path, download: bool, seed: int, folds: int, fold: int) -> Task:
        """Read the file and divide its rows.

        Parameters
        ----------
        folder, download
            Without effect: the path says where the file is.
        seed, folds, fold
            As for `clients.tasks.folds.split`.

        Raises
        ------
        DataError
            If the file is missing, is no such table, or has no such column.
        """
        return table_task(f"csv:{Path(self.path).name}", self._table(), seed, folds, fold)

    def _table(self) -> Table:
        rows = self._rows()
        file = Path(self.path)
        column = self._column(rows[0])
        header = not all(map(_is_number, rows[0][:column] + rows[0][column + 1 :]))
        names = [row.pop(column) for row in rows]
        body, labels = rows[header:], names[header:]
        if len(body) < 2 or not body[0]:
            raise self._wrong(
                f"{len(body)} rows of {len(rows[0])} features", "at least 2 rows of 1"
            )
        try:
            features = np.array(body, np.float64)
        except ValueError:
            place = ((i, cell) for i, row in enumerate(body) for cell in row)
            i, cell = next((i, cell) for i, cell in place if not _is_number(cell))
            raise self._wrong(f"{cell!r} in row {i + 1 + header} is no number") from None
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise self._wrong(f"NaN or Inf in row {row + 1 + header}")
        classes = _sorted_values(labels)
        if not 2 <= len(classes) <= max(2, len(labels) // 2):
            raise self._wrong(
                f"{len(classes)} different labels in {len(labels)} rows",
                f"at least 2, and fewer than half the rows (is column {column} the label?)",
            )
        numbers = np.array([classes.index(each) for each in labels])
        source = f"{file} ({len(labels)} rows, {features.shape[1]} features)"
        return Table(features, numbers, len(classes), source)

    def _rows(self) -> list[list[str]]:
        """Return the cells of every line that is not empty, of one length."""
        file = Path(self.path)
        try:
            raw = file.read_bytes()
            text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
            lines = [line for line in text.splitlines() if line.strip()]
            sign = max(",;\t", key=lines[0].count) if lines else ","
            rows = [[c.strip() for c in row] for row in csv.reader(lines, delimiter=sign)]
        except (*READ_ERRORS, csv.Error) as error:
            raise self._wrong(f"cannot be read ({error})") from error
        if not rows:
            raise self._wrong("no data")
        for i, row in enumerate(rows):
            if len(row) != len(rows[0]):
                problem = f"{len(row)} cells in row {i + 1} and {len(rows[0])} in row 1"
                raise self._wrong(problem)
        return rows

    def _column(self, first: list[str]) -> int:
        """Return the place of the label's column."""
        ends = {"first": 0, "last": len(first) - 1}
        if isinstance(self.label, int) and 0 <= self.label < len(first):
            return int(self.label)
        if self.label in first:
            return first.index(str(self.label))
        if self.label in ends:
            return ends[str(self.label)]
        raise self._wrong(
            f"no column {self.label!r}", f"first, last, 0 to {len(first) - 1}, or a name in row 1"
        )

    def _wrong(self, problem: str, expected: str = EXPECTED) -> DataError:
        return DataError.about(Path(self.path), problem, expected, _WAY_OUT)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _sorted_values(labels: Iterable[str]) -> list[str]:
    """Return the different labels, in the order of their numbers if all are numbers."""
    values = set(labels)
    return sorted(values, key=float if all(map(_is_number, values)) else None)
