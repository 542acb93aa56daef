"""What the strategies of both of Flower's APIs share; each of them only translates its API."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from logging import INFO, WARNING
from typing import Any, ClassVar

from flwr.common.logger import log

from flwr_krum.arguments import tell_arguments
from flwr_krum.boundary.metrics import Metric
from flwr_krum.boundary.questions import Arrivals
from flwr_krum.boundary.replies import ClientId, Reply, in_a_sentence
from flwr_krum.in_force import WAY_OUT, prospects
from flwr_krum.kernel.arrays import Array
from flwr_krum.log import announce
from flwr_krum.report import RoundReport
from flwr_krum.round import Rounds
from flwr_krum.rules.rule import Rule
from flwr_krum.settings import OnInfeasible, RoundOptions

FATES: dict[OnInfeasible, str] = {"skip": "skipped", "raise": "an error", "degrade": "degraded"}
"""What becomes of a round for which there are too few replies."""


class RobustStrategy:
    """A rule's rounds, what they leave behind, and what is said of them.

    Attributes
    ----------
    reports : list of RoundReport
        One per round, the last ``flwr_krum.ledger.REPORTS_KEPT`` of them.
    last_report : RoundReport or None
    optimizer_state : dict of name to array
        What the server optimizer remembers after the last round: to be saved in one file with
        that round's model, and to be given back as ``server_optimizer_state``. Empty without one.
    last_step : dict of name to array
        For rules that measure from it, such as ``CenteredClipping(start="step")``: to be saved
        and given back likewise, as ``server_last_step``. Empty for other rules.
    """

    __signature__: ClassVar[inspect.Signature]
    _own_id: Callable[[Any], ClientId]
    """What a client is called by default."""

    _SAMPLING: ClassVar[tuple[str, str, str]]
    """Flower's arguments for the fraction of clients that is asked, and for the least numbers of
    clients that are asked and that are connected."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        tell_arguments(cls)

    def _set_up(
        self,
        rule: Rule,
        client_id: Callable[[Any], ClientId] | None,
        count_key: str,
        options: RoundOptions,
    ) -> None:
        if client_id is None and options.get("weights") is not None:
            raise ValueError(
                "weights are declared by site, and a node's own id is no site's name: "
                "give client_id=, a function that names a node"
            )
        self._rounds = Rounds(rule, count_key=count_key, **options)
        self._client_id: Callable[[Any], object] = client_id or type(self)._own_id
        self._arrivals = Arrivals()
        self._nameless: set[ClientId] = set()
        self._connected = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rule={self._rounds.rule!r})"

    @property
    def reports(self) -> list[RoundReport]:
        """What each round did, oldest first."""
        return list(self._rounds.reports)

    @property
    def last_report(self) -> RoundReport | None:
        """What the last round did; None before the first."""
        return self._rounds.reports[-1] if self._rounds.reports else None

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the server optimizer remembers after the last round; empty without one."""
        return self._rounds.optimizer_state

    @property
    def last_step(self) -> dict[str, Array]:
        """The last step, for rules that measure from it; empty for others."""
        return self._rounds.last_step

    def summary(self) -> None:
        """Log the settings as a small tree, and whether rounds will have the replies they need."""
        for line in self._rounds.summary(type(self).__name__):
            log(INFO, line)
        fraction, least, available = (getattr(self, name) for name in self._SAMPLING)
        n = max(self._connected, available, least)
        asked = max(int(n * fraction), least)
        if asked == 0:
            return  # no training at all, or nobody knows yet of how many
        fate = FATES[self._rounds.on_infeasible]
        can_lose, text = prospects(self._rounds.rule, fate, asked, self._rounds.least_clients)
        if not can_lose:
            text += f"; raise {self._SAMPLING[1]} and {self._SAMPLING[2]}, lower f, or {WAY_OUT}"
        log(INFO if can_lose else WARNING, "\t├──> Replies: of %s clients %s", n, text)

    def _name(self, client: Any) -> ClientId:
        """Return the name under which a client is reported: the operator's, else its own."""
        try:
            name = self._client_id(client)
            if isinstance(name, int | str):
                return name
            problem = f"returns {name!r}"
        except Exception as error:  # a client that the operator's function does not know
            problem = f"raises {in_a_sentence(error)}"
        own = type(self)._own_id(client)
        if own not in self._nameless:
            self._nameless.add(own)
            log(WARNING, "client_id %s for client %s, which goes by that id", problem, own)
        return own

    def _current(self, server_round: int) -> int:
        """Return the round as it counts on from those that were done before."""
        return server_round + self._rounds.rounds_done

    def _finish(
        self,
        server_round: int,
        replies: Sequence[Reply],
        failed: Mapping[ClientId, str],
        veto: str = "",
    ) -> tuple[dict[str, bytes] | None, RoundReport] | None:
        """Aggregate and announce a round; None where nobody was there to be asked or answered."""
        fetched = self._arrivals.fetched
        arrived, late = self._arrived()
        rounds = self._rounds
        if not (replies or failed or rounds.asked or rounds.quarantined or rounds.problem):
            return None
        current = self._current(server_round)
        model, report = self._rounds.finish(current, replies, failed, veto, arrived, late, fetched)
        announce(report)
        return model, report

    def _noted(self, sampled: int, asked: int, **hooks: Callable[[Any], Any]) -> Arrivals:
        """Return notes for an exchange with some of the sampled clients, before there are any."""
        liars = self._rounds.rule.f or 0
        most = self._rounds.limits
        return Arrivals(self._rounds.closing(sampled, asked), liars=liars, most=most, **hooks)

    def _arrived(self) -> tuple[dict[ClientId, float], list[ClientId]]:
        """Return when each client's reply came, and who was late; what was noted is used up."""
        notes, self._arrivals = self._arrivals, Arrivals()

        def name(node: int) -> ClientId:
            return self._name(notes.clients.get(node, node))

        arrived = {name(node): round(seconds, 4) for node, seconds in notes.at.items()}
        return arrived, [name(node) for node in notes.late]

    def _examine(
        self, replies: Sequence[Reply], failed: Mapping[ClientId, str]
    ) -> dict[str, Metric]:
        """Return the trimmed means of a federated evaluation, and log what is wrong with it."""
        for client, reason in failed.items():
            log(WARNING, "\t> failed %s: %s", client, reason)
        if late := self._arrived()[1]:
            log(INFO, "\t> closed without %s late: %s", len(late), ", ".join(map(str, late)))
        if not replies:
            return {}
        claimed = self._rounds.examine(replies, [reply.client for reply in replies])
        for line in claimed.lines():
            log(WARNING, "\t> %s", line)
        return claimed.metrics


def own_metrics(aggregate: Callable[..., Mapping[str, Any]], *heard: Any) -> dict[str, Any]:
    """Return what the operator's own function makes of the replies; nothing where it fails."""
    try:
        return dict(aggregate(*heard))
    except Exception as error:
        # It met what a client made up; the round must go on.
        log(WARNING, "metrics were not aggregated: %s", in_a_sentence(error))
        return {}
