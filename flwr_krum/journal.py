"""The journal: one JSON line per round, on the disk before the next round begins."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from flwr_krum.report import RoundReport

_BEGINNING = b'{"server_round": '


class Unsynced(str):
    """The path of a journal that the operating system may bring to the disk when it likes.

    Its lines outlive the process, however it ends, but not the machine: for runs whose model is
    not on the disk either, and whose rounds are shorter than a disk takes.
    """


class JournalError(ValueError):
    """A journal cannot be read, or must not be written over."""


class Journal:
    """Appends reports to a file, each flushed to the disk.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made. With `Unsynced` a report is flushed to the system only.
    rounds_done : int (default: 0)
        The rounds that the run goes on from. What the file holds of later rounds, and a line
        that a crash tore, is dropped.

    Attributes
    ----------
    reports : list of RoundReport
        The rounds up to ``rounds_done`` that the file holds.

    Raises
    ------
    JournalError
        If the file holds rounds and ``rounds_done`` is 0, or it is damaged.
    """

    def __init__(self, path: str | Path, rounds_done: int = 0) -> None:
        self._path = Path(path)
        self._sync = not isinstance(path, Unsynced)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found = read_journal(self._path) if self._path.exists() else []
        if found and rounds_done == 0:
            raise JournalError(
                f"{path} already holds {len(found)} rounds, the last {found[-1].server_round}: "
                f"go on from it with rounds_done={found[-1].server_round} and that round's model, "
                "or name another file"
            )
        self.reports = [report for report in found if report.server_round <= rounds_done]
        self._rewrite(self.reports)

    def append(self, report: RoundReport) -> None:
        """Write one round; it is on the disk when this returns."""
        with self._path.open("ab") as file:
            _write(file, [report], self._sync)

    def _rewrite(self, reports: Sequence[RoundReport]) -> None:
        beside = self._path.with_name(self._path.name + ".new")
        with beside.open("wb") as file:
            _write(file, reports, sync=True)
        beside.replace(self._path)


def read_journal(path: str | Path) -> list[RoundReport]:
    """Read the rounds of a journal; a last line that a crash tore is left out.

    Raises
    ------
    JournalError
        If another line is not a report.
    """
    lines = Path(path).read_bytes().split(b"\n")
    reports = []
    for number, line in enumerate(lines, 1):
        try:
            if line:
                reports.append(RoundReport.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # Whatever follows the last line break was being written when the lights went out, if
            # it begins as our lines do; another file must not be taken for a journal.
            ours = line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
            if number < len(lines) or not ours:
                raise JournalError(f"{path}, line {number}: not a round report") from error
    return reports


_JSON = json.JSONEncoder(allow_nan=False)


def _write(file: BinaryIO, reports: Sequence[RoundReport], sync: bool) -> None:
    for report in reports:
        file.write(_JSON.encode(report.to_json()).encode() + b"\n")
    file.flush()
    if sync:
        os.fsync(file.fileno())
