"""What the threads of one exchange with nodes share: what was found, and when it is over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event
from typing import TypeAlias

from flwr.app import Message

from flwr_krum.boundary.questions import Arrivals

Found: TypeAlias = Message | BaseException | None
"""A reply, the end of the run, or nothing yet."""

Take: TypeAlias = Callable[[str], Message | None]
"""Takes the reply to a message of an id from the grid, if it is there."""


class Look:
    """One look for a reply, and how long the server itself held it back.

    Attributes
    ----------
    over : Event
        Set when nobody waits for the reply any more.
    """

    def __init__(self, over: Event) -> None:
        self.over = over
        self._held = 0.0
        self._since: float | None = None

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Count what happens here as no time of the node's."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._held, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Seconds for which it was held back so far."""
        since = self._since
        return self._held + (0.0 if since is None else time.monotonic() - since)


class Exchange:
    """Messages that are out, and the replies that were found so far.

    Parameters
    ----------
    arrivals : Arrivals
        The notes of it; their quorum may close it.
    begin : float
        When it began, by the monotonic clock.
    patience : float
        Seconds that it lasts at most.

    Attributes
    ----------
    found : deque of (message id, Found, seconds)
        With the seconds from the beginning until a reply was in the server's hands, less those
        for which the server held it back.
    news : queue
        Gets an item where something was found.
    over : Event
    """

    def __init__(self, arrivals: Arrivals, begin: float, patience: float) -> None:
        self.arrivals = arrivals
        self.patience = patience
        self._begin = begin
        self._looks: set[Look] = set()
        self.found: deque[tuple[str, Found, float]] = deque()
        self.news: SimpleQueue[None] = SimpleQueue()
        self.over = Event()

    @contextmanager
    def look(self) -> Iterator[Look]:
        """Begin a look for a reply; what it finds is told before it ends."""
        look = Look(self.over)
        self._looks.add(look)
        try:
            yield look
        finally:
            self._looks.discard(look)

    def tell(self, id_: str, found: Found, look: Look) -> None:
        """Hand over what was found of a reply, with the time."""
        self.found.append((id_, found, time.monotonic() - self._begin - look.seconds))

    @property
    def left(self) -> float:
        """Seconds until it is over, as far as is known now.

        A quorum's close is put off by as long as a look that is going on was held back: no node is
        late because the server was.
        """
        held = max((look.seconds for look in list(self._looks)), default=0.0)
        end = self._begin + min(self.patience, self.arrivals.close + held)
        return max(0.0, end - time.monotonic())
