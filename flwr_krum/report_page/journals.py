"""Runs as the page shows them where there is nothing but a journal: an app of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr_krum.boundary.replies import ClientId
from flwr_krum.fates import fates
from flwr_krum.journal import read_journal
from flwr_krum.report import RoundReport
from flwr_krum.report_page.shown import Evaluation
from flwr_krum.report_page.texts import labels_of

USUAL = "journal.jsonl"
"""A journal of this name is called after its folder."""


@dataclass(frozen=True)
class JournalRun:
    """A run of which nobody knows who attacks, or how good its model is."""

    label: str
    path: Path
    reports: Sequence[RoundReport]
    clients: tuple[ClientId, ...] = ()
    byzantine: None = None
    evaluations: tuple[Evaluation, ...] = ()
    wanted_rounds: None = None
    batch_size: None = None

    @property
    def what(self) -> str:
        """What the run was, in a line."""
        return f"{self.setup['rule']}, {self.setup['n']} nodes, {len(self.reports)} rounds"

    @property
    def outcome(self) -> Mapping[str, str]:
        """Nothing but what the reports say."""
        return {}

    @property
    def setup(self) -> Mapping[str, str]:
        """The nodes that any round named; f in force and rule of the last one."""
        n = len({client for report in self.reports for client in fates(report)})
        last = self.reports[-1] if self.reports else None
        return {
            "n": str(n),
            "f": str(last.byzantine) if last else "–",
            "rule": last.rule if last else "no round yet",
        }

    @property
    def settings(self) -> Mapping[str, object]:
        """What the last round was made with, as far as its report says."""
        if not self.reports:
            return {}
        last = self.reports[-1]
        return {
            "rule": last.rule,
            "f in force": last.byzantine,
            "f rests on": last.basis,
            "replies needed": last.needed,
            "declared weights": f"of {len(last.weighting.shares)} sites" if last.weighting else "",
            "server optimizer": last.optimizer,
            "barred by the operator": ", ".join(last.bars),
        }

    @property
    def sources(self) -> Mapping[str, object]:
        """The journal, and from when to when it goes."""
        times = [report.time for report in self.reports if report.time]
        return {
            "journal": self.path.name,
            "first round over": times[0] if times else None,
            "last round over": times[-1] if times else None,
        }


def read_journals(paths: Sequence[Path]) -> list[JournalRun]:
    """Read the journals of runs; one that is still written is read up to its last whole round.

    Raises
    ------
    FileNotFoundError, JournalError
        If one is not there, or cannot be read.
    """
    labels = labels_of([_named_after(path) for path in paths])
    return [
        JournalRun(label, path, read_journal(path))
        for label, path in zip(labels, paths, strict=True)
    ]


def _named_after(path: Path) -> Path:
    return path.resolve().parent if path.name == USUAL else path.with_suffix("")
