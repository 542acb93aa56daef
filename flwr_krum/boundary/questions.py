"""Messages that are asked together, and the notes of it: when their replies came, who is late.

The messages go out with the notes beside them, so that strategy and grid need not know each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeAlias

from flwr.app import Message

from flwr_krum.boundary.messages import EVERYTHING, Limits
from flwr_krum.boundary.quorum import Quorum

KindOf: TypeAlias = Callable[[Message], Hashable | None]
"""What a reply counts as towards a quorum, which replies of one kind make; None is not at all."""


def nothing(_: Message) -> None:
    """Do nothing with a reply that came."""


def answer(_: Message) -> Hashable:
    """Take every reply for one of the same kind."""
    return "an answer"


class Fetched(NamedTuple):
    """How much was fetched object by object.

    Attributes
    ----------
    bytes : int
        Of all objects.
    distinct : int
        Of these, each counted once.
    """

    bytes: int = 0
    distinct: int = 0


class Arrivals:
    """When the replies to some messages came, and whom their quorum did not wait for.

    Parameters
    ----------
    quorum : Quorum, optional
        When the exchange may close before all have answered.
    kind_of : callable, Message -> hashable or None
        Tells replies apart that a round would not take in together; by default all are alike.
    liars : int
        How many of the nodes may send nothing that counts.
    told : callable, Message -> None
        Is told of each reply that is no error, as it comes; others come meanwhile.
    most : Limits
        How much of a reply is read, where it can be refused before it is fetched.

    Attributes
    ----------
    at : dict of node id to float
        Seconds from the beginning of the exchange until a reply was in the server's hands, less
        those for which the server held it back; errors have none, nor has a reply of a node in
        this process.
    late : list of node ids
        Those whose reply was not there when a quorum closed the exchange, and those that were not
        asked since they owe an earlier one.
    clients : dict of node id to client
        What the API calls a node, where that is not the id.
    fetched : Fetched
        What the chunk lane fetched; nothing where there is none.
    """

    def __init__(
        self,
        quorum: Quorum | None = None,
        kind_of: KindOf = answer,
        liars: int = 0,
        told: Callable[[Message], None] = nothing,
        most: Limits = EVERYTHING,
    ) -> None:
        self.quorum = quorum
        self.kind_of = kind_of
        self.liars = liars
        self.told = told
        self.most = most
        self.at: dict[int, float] = {}
        self.late: list[int] = []
        self.clients: dict[int, Any] = {}
        self.fetched = Fetched()
        self._counted: dict[Hashable, list[float]] = {}

    def note(self, node: int, reply: Message, seconds: float) -> None:
        """Note that a node's reply came."""
        if reply.has_error():
            return
        self.at[node] = seconds
        self.told(reply)
        if self.quorum is not None and (kind := self.kind_of(reply)) is not None:
            self._counted.setdefault(kind, []).append(seconds)

    def may_leave_out(self, owing: int, asked: int) -> bool:
        """Say whether the quorum can be reached without the nodes that owe a reply.

        Also where all liars send nothing that counts: else they could have the honest be late in
        one round, and be too few in the next. An outage, after which all owe, ends no run.
        """
        return self.quorum is not None and asked - owing >= self.quorum.least + self.liars

    @property
    def close(self) -> float:
        """Seconds after which the exchange is over; math.inf while there is no quorum."""
        if self.quorum is None:
            return math.inf
        return min(map(self.quorum.closes, self._counted.values()), default=math.inf)


class Questions(list[Message]):
    """Messages of one exchange, with the notes that it makes."""

    def __init__(self, messages: Iterable[Message], arrivals: Arrivals) -> None:
        super().__init__(messages)
        self.arrivals = arrivals
