"""A journal under watch: its numbers for whoever asks, and its alerts as they come."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr_krum.monitor.alerts import Alert, Watch
from flwr_krum.monitor.follow import Follower
from flwr_krum.monitor.tally import Numbers, Tally, numbers
from flwr_krum.report import RoundReport, now


def _parse(line: bytes) -> tuple[RoundReport, Numbers]:
    report = RoundReport.from_json(json.loads(line))
    return report, numbers(report)


class Monitor:
    """Follows one journal.

    Alerts are told of rounds that ended after the monitor began: it can be started and stopped at
    any time without telling anything twice. What happened while it was not there is in the numbers.

    Parameters
    ----------
    journal : Path
        It need not be there yet.
    refusals : int
        See `Watch`.
    tell : sequence of callables, alert -> None
    say : callable, text -> None
        Takes what is to be logged.
    """

    def __init__(
        self,
        journal: Path,
        refusals: int,
        tell: Sequence[Callable[[Alert], None]],
        say: Callable[[str], None],
    ) -> None:
        self._journal, self._refusals, self._tell, self._say = journal, refusals, tell, say
        self._follower = Follower(journal, _parse)
        self._began = now()
        self._lock = threading.Lock()
        self._problem = ""
        self._start_anew()

    def _start_anew(self) -> None:
        self._watch, self._tally, self._damaged = Watch(self._refusals), Tally(), 0

    def look(self) -> int:
        """Take in what is new in the journal; return how many rounds that were."""
        news = self._follower.news()
        if news.problem != self._problem:
            self._say(news.problem or f"{self._journal} can be read")
        if news.is_another:
            self._say(f"{self._journal} is another file now, or its rounds are: counted anew")
        for line in news.damaged:
            self._say(f"{self._journal}, line {line}: not a round report, left out")
        with self._lock:
            self._problem = news.problem
            if news.is_another:
                self._start_anew()
            self._damaged += len(news.damaged)
            for _, found in news.values:
                self._tally.add(found)
        for report, _ in news.values:
            self._see(report)
        return len(news.values) + len(news.damaged)

    def _see(self, report: RoundReport) -> None:
        for alert in self._watch.see(report):
            if report.time > self._began:
                self._say(alert.text)
                for tell in self._tell:
                    tell(alert)

    def numbers(self) -> list[tuple[tuple[str, ...], float]]:
        """Return all numbers as they are now, in whichever thread."""
        with self._lock:
            return [
                (("journal_readable",), float(not self._problem)),
                (("journal_damaged_lines",), self._damaged),
                *self._tally,
            ]
