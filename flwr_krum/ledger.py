"""What a federation has been through: kept, told, and counted where the next round is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

from flwr_krum.boundary.quarantine import Quarantine
from flwr_krum.boundary.replies import ClientId, client_order
from flwr_krum.hook import Hook
from flwr_krum.journal import Journal, as_journal
from flwr_krum.log import warn
from flwr_krum.orders import Orders, StandingOrders
from flwr_krum.recorded import DistancesFile, RecordedRound
from flwr_krum.report import RoundReport, time_after
from flwr_krum.settings import RoundSettings
from flwr_krum.weights import DeclaredWeights

REPORTS_KEPT = 10_000
"""Reports kept in memory; older ones are dropped."""


class Called(NamedTuple):
    """What becomes of the clients that were sampled for a round, each in order of their ids.

    ``quarantined`` are left out, the ``barred`` among them; all others are ``asked``.
    """

    asked: tuple[ClientId, ...] = ()
    quarantined: tuple[ClientId, ...] = ()
    barred: tuple[ClientId, ...] = ()


class Ledger:
    """The reports of a federation, in memory and in its files, and what follows from them.

    Parameters
    ----------
    settings : RoundSettings
        Of the journal, the file of distances, quarantine and who is told.
    weights : DeclaredWeights
        The journal's must be the same.

    Attributes
    ----------
    reports : deque of RoundReport
        One per round, the last `REPORTS_KEPT`.
    past : list of RoundReport, optional
        Those that the journal held when it was opened; None without a journal.

    Raises
    ------
    TypeError, ValueError
        If ``quarantine`` or ``on_report`` is none; JournalError if the journal holds another run,
        FileError if the file of distances does, OrdersError if there are orders that cannot be
        read.
    """

    def __init__(self, settings: RoundSettings, weights: DeclaredWeights) -> None:
        self._journal: Journal | None = None
        self._orders: StandingOrders | None = None
        if settings.journal is not None:
            self._journal = as_journal(settings.journal, settings.rounds_done)
            self._journal.check_rule(str(settings.rule))
            self._journal.check_weights(weights)
            newest = self._journal.newest  # an order is not undone by going back to older rounds
            self._orders = StandingOrders(self._journal.path, newest.bars if newest else ())
        self._distances = (
            None
            if settings.distances is None
            else DistancesFile(settings.distances, settings.rounds_done)
        )
        self._hook = (
            None if settings.on_report is None else Hook(settings.on_report, "on_report", warn)
        )
        self.past = self._journal.reports if self._journal else None
        self.reports = deque(self.past or (), maxlen=REPORTS_KEPT)
        self._quarantine = Quarantine(settings.quarantine)
        for report in self.reports:
            self._note(report)

    def __str__(self) -> str:
        return str(self._journal.path) if self._journal else "none"

    def call(self, sampled: Iterable[ClientId], least: int) -> Called:
        """Say who of the sampled clients is asked.

        Those whom the operator barred are not, and those in quarantine for their refusals. The
        latter are never so many that fewer than ``least`` would be left; the operator is obeyed.
        """
        ordered = sorted(sampled, key=client_order)
        orders = self._orders.now(time_after(self.reports)) if self._orders else Orders()
        barred = tuple(filter(orders.bar, ordered))
        free = [client for client in ordered if client not in barred]
        refused = self._quarantine.among(free, len(free) - least, orders.readmitted)
        quarantined = tuple(sorted((*barred, *refused), key=client_order))
        asked = tuple(client for client in ordered if client not in quarantined)
        return Called(asked, quarantined, barred)

    def bars(self, client: ClientId) -> bool:
        """Say whether the operator has barred a client, as of the beginning of the round."""
        return self._orders is not None and self._orders.last.bar(client)

    @property
    def all_barred(self) -> tuple[str, ...]:
        """All whom the operator has barred, sampled or not."""
        return self._orders.last.names if self._orders else ()

    @property
    def problem(self) -> str:
        """Why the operator's orders are not those of their file; empty if they are."""
        return self._orders.problem if self._orders else ""

    @property
    def keeps_distances(self) -> bool:
        """Whether there is a file for who was how far from whom."""
        return self._distances is not None

    def record(self, distances: RecordedRound) -> None:
        """Keep the distances of a round; before its report.

        A round without distances would be a gap, one without a report is dropped by who goes on.
        """
        if self._distances is not None:
            self._distances.append(distances)

    def keep(self, report: RoundReport) -> None:
        """Keep the report of a round, and tell of it."""
        self._note(report)
        self.reports.append(report)
        if self._journal:
            self._journal.append(report)
        if self._hook:
            self._hook.tell(deepcopy(report))  # what is done to it there touches nothing here

    def _note(self, report: RoundReport) -> None:
        self._quarantine.note(report.time, report.refused, len(report.received))
