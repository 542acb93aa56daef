"""The journal: one JSON line per round, on the disk before the next round begins."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from flwr_krum.lines import (
    FileError,
    Line,
    LineWriter,
    check_is_file,
    check_is_next,
    read_lines,
    writing,
)
from flwr_krum.lock import Lock, LockedError
from flwr_krum.report import RoundReport
from flwr_krum.weights import DeclaredWeights

_BEGINNING = b'{"server_round": '

_JSON = json.JSONEncoder(allow_nan=False)


class JournalError(FileError):
    """A journal cannot be read, or must not be written, or cannot; the message says why."""


class Journal(contextlib.AbstractContextManager["Journal"]):
    """Appends the reports of one run to a file that nobody else writes meanwhile.

    The file is locked for as long as the journal is in use. In one process the newest journal of
    a file takes it over from older ones, so that a run can go on in the session that began it. A
    copy, such as a pickled one, takes it with its first round.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made.
    rounds_done : int (default: 0)
        The rounds that the run goes on from. What the file holds of later rounds, and a line
        that a crash tore, is dropped when the next round is written.
    sync : bool (default: True)
        Whether a round is on the disk when it is written, or only on its way there: then it
        outlives the process, however that ends, but not the machine. For runs whose model is not
        on the disk either, and whose rounds are shorter than a disk takes.

    Attributes
    ----------
    reports : list of RoundReport
        The rounds up to ``rounds_done`` that the file holds.
    newest : RoundReport, optional
        The last one that it holds, be it later than those.

    Raises
    ------
    JournalError
        If the file holds rounds and ``rounds_done`` is 0, or fewer than ``rounds_done``; if it is
        damaged, no file, cannot be written, or is being written by another process.
    """

    def __init__(self, path: str | Path, rounds_done: int = 0, *, sync: bool = True) -> None:
        self.path = Path(path)
        self.rounds_done = rounds_done
        self._sync = sync
        self._last = rounds_done
        self.reports: list[RoundReport] = []
        self.newest: RoundReport | None = None
        self._writer: LineWriter | None = None
        self._lock: Lock | None = None
        self._overtaken = False
        self._open()

    def append(self, report: RoundReport) -> None:
        """Write one round; it is on the disk when this returns, and not in the file if it raises.

        Raises
        ------
        JournalError
            If it cannot be written, or is not later than the last one.
        """
        with _as_journal_error():
            check_is_next(self.path, report.server_round, self._last)
        if self._overtaken:
            raise JournalError(f"{self.path}: a later strategy of this process has taken it over")
        if self._writer is None:
            self._open()
        assert self._writer is not None
        with _as_journal_error(f"round {report.server_round}: "):
            self._writer.append(_JSON.encode(report.to_json()).encode())
        self._last = report.server_round

    def close(self) -> None:
        """Let others write the file."""
        if self._lock is not None:
            self._lock.release()
        self._writer = self._lock = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_rule(self, rule: str) -> None:
        """Raise JournalError if the rounds in the file are those of another kind of rule.

        Its numbers may differ: the operator may have corrected f, and f in force changes.
        """
        if self.reports and _kinds(self.reports[-1].rule) != _kinds(rule):
            raise JournalError(
                f"{self.path} holds rounds of {self.reports[-1].rule}, and the rule is {rule}: "
                "go on with the former, or name another file"
            )

    def check_weights(self, weights: DeclaredWeights) -> None:
        """Raise JournalError if the rounds in the file were weighed otherwise."""
        for report in self.reports:
            counted = report.weighting is not None or report.stepped
            if counted and (change := weights.unlike(report.weighting)):
                raise JournalError(
                    f"{self.path}, round {report.server_round}: {change}; go on with the former, "
                    "or name another file"
                )

    def _open(self) -> None:
        """Lock the file, read it, and make it ready for the round after the last one."""
        place = self.path.parent.resolve() / self.path.name
        with _as_journal_error(), contextlib.ExitStack() as undo:
            check_is_file(self.path)
            older = _OPEN.get(place)
            lock = older._lock if older else None
            if lock is None:
                with writing(self.path):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    lock = Lock(place.with_name(place.name + ".lock"), str(self.path))
                undo.callback(lock.release)
            found = _read(self.path) if place.exists() else []
            kept = _kept(self.path, found, self._last)
            self._writer = LineWriter(self.path, kept[-1].end if kept else 0, self._sync)
            undo.pop_all()
        if older:
            older._lock, older._overtaken = None, True
        self.reports = [line.value for line in kept]
        self.newest = found[-1].value if found else None
        self._lock = lock
        _OPEN[place] = self

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writer": None, "_lock": None}


JournalLike: TypeAlias = str | Path | Journal


def as_journal(journal: JournalLike, rounds_done: int) -> Journal:
    """Open the journal of a run that goes on from so many rounds; one that is open must agree.

    Raises
    ------
    JournalError
        As for `Journal`, or if it is open for another number of rounds.
    """
    if not isinstance(journal, Journal):
        return Journal(journal, rounds_done)
    if journal.rounds_done != rounds_done:
        raise JournalError(
            f"{journal.path} is open after {journal.rounds_done} rounds, and rounds_done is "
            f"{rounds_done}: expected the same"
        )
    return journal


_OPEN: WeakValueDictionary[Path, Journal] = WeakValueDictionary()
"""The journals that this process writes."""


def read_journal(path: str | Path) -> list[RoundReport]:
    """Read the rounds of a journal; a last line that a crash tore is left out.

    Raises
    ------
    JournalError
        If another line is not a report.
    FileNotFoundError
        If there is no such file.
    """
    with _as_journal_error():
        return [line.value for line in _read(Path(path))]


@contextlib.contextmanager
def _as_journal_error(beginning: str = "") -> Iterator[None]:
    try:
        yield
    except JournalError:
        raise
    except (FileError, LockedError) as error:
        raise JournalError(f"{beginning}{error}") from error


def _read(path: Path) -> list[Line[RoundReport]]:
    def parse(text: bytes) -> RoundReport:
        return RoundReport.from_json(json.loads(text))

    return read_lines(path, parse, "a round report", _BEGINNING)


def _kept(
    path: Path, found: Sequence[Line[RoundReport]], rounds_done: int
) -> list[Line[RoundReport]]:
    """Return the lines of the rounds that are done, of those that a file holds.

    Raises
    ------
    JournalError
        If they are not those of one run up to there.
    """
    rounds = [line.value.server_round for line in found]
    if rounds and rounds_done == 0:
        raise JournalError(
            f"{path} already holds {len(rounds)} rounds, the last {rounds[-1]}: "
            f"go on from it with rounds_done={rounds[-1]} and that round's model, "
            "or name another file"
        )
    for i, (before, after) in enumerate(itertools.pairwise(rounds)):
        if after <= before:
            raise JournalError(
                f"{path}: round {after}, report {i + 2}, follows round {before}: more than one "
                "run has written it; name another file"
            )
    if rounds and rounds_done > rounds[-1]:
        raise JournalError(
            f"{path} ends with round {rounds[-1]}, and rounds_done is {rounds_done}: "
            f"go on with rounds_done={rounds[-1]} and that round's model, or name another file"
        )
    return [line for line in found if line.value.server_round <= rounds_done]


def _kinds(rule: str) -> list[str]:
    """Return the names of a rule and of what it is made of, without their parameters."""
    return re.findall(r"(\w+)\(", rule)
