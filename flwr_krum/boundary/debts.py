"""Who owes a reply to an exchange that a quorum has closed: it is dropped when it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple, TypeAlias

from flwr.app import Message, RecordDict

from flwr_krum.boundary.crew import Crew

FIRST_POLL, SLOWEST_POLL = 0.05, 1.0
"""Seconds between two looks for a reply: the first, and the last of ever longer ones."""

Drop: TypeAlias = Callable[[str, Message], bool]
"""Takes the reply to a message of an id and lets it go; False where it is not there yet."""


class Debts:
    """Replies that are owed, by their messages' ids.

    Parameters
    ----------
    crew : Crew
        Looks for them.
    drop : callable, (id, message) -> bool
    """

    def __init__(self, crew: Crew, drop: Drop) -> None:
        self._crew = crew
        self._drop = drop
        self._owed: dict[str, _Debt] = {}

    def add(self, sent: Mapping[str, Message]) -> None:
        """Remember that the replies to messages are owed."""
        self._owed.update({id_: _Debt.of(message) for id_, message in sent.items()})

    def settle(self, id_: str) -> None:
        """Forget a debt, if there is one: its reply came, or never will."""
        self._owed.pop(id_, None)

    def debtors(self, over: Event, patience: float, pulled: Container[str]) -> frozenset[int]:
        """Return the nodes that owe a reply, after what is there of these was dropped.

        Whatever comes before an exchange is over is dropped as well.

        Parameters
        ----------
        over : Event
            Set when the exchange is over.
        patience : float
            Seconds to wait for what is there at once.
        pulled : container of ids
            Replies that a thread is waiting for already.
        """
        now = time.monotonic()
        looked: SimpleQueue[None] = SimpleQueue()
        looks = 0
        for id_, debt in list(self._owed.items()):
            if debt.expires < now:
                self.settle(id_)
            elif id_ not in pulled:
                looks += 1
                self._crew.do(partial(self._collect, id_, debt.asked, over, looked))
        with suppress(Empty):
            for _ in range(looks):
                looked.get(timeout=max(0.0, now + patience - time.monotonic()))
        return frozenset(debt.asked.metadata.dst_node_id for debt in list(self._owed.values()))

    def _collect(self, id_: str, asked: Message, over: Event, looked: SimpleQueue[None]) -> None:
        """Drop a reply that is nobody's any more once it is there, while the exchange lasts."""
        pause = FIRST_POLL
        while not self._drop(id_, asked):
            looked.put(None)
            if over.wait(pause):
                return
            pause = min(2 * pause, SLOWEST_POLL)
        looked.put(None)


class _Debt(NamedTuple):
    """What was asked, without the content, and when the reply will have expired."""

    asked: Message
    expires: float

    @classmethod
    def of(cls, message: Message) -> _Debt:
        metadata = message.metadata
        asked = Message(RecordDict(), metadata.dst_node_id, metadata.message_type)
        return cls(asked, time.monotonic() + metadata.ttl)
