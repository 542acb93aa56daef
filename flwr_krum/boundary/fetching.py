"""The replies of one exchange, fetched through the chunk lane by one thread until it is over.

A reply that the lane has claimed is the SuperLink's no more: it is gone on with until it is whole,
or the exchange over, whatever fails meanwhile.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from flwr.app import Message, RecordDict

from flwr_krum.boundary.debts import FIRST_POLL, SLOWEST_POLL
from flwr_krum.boundary.exchange import Exchange, Found, Look, Take
from flwr_krum.boundary.lane import ChunkLane, Claim, LostReplyError, OddReplyError, walk
from flwr_krum.boundary.messages import LetGo
from flwr_krum.boundary.spill import AT_A_TIME, PATIENCE, Spill

FEWEST_OBJECTS = 1024
"""Objects that a reply may have whatever was asked; else four times as many as the question."""

HEAD = 1024
"""Bytes that an object may take for names: its own kind, and those that it consists of."""

SLICE = 0.25
"""Seconds for which one reply is fetched before others are asked for that were announced."""

Pull: TypeAlias = Callable[[str, Message, Take], Found]
"""Takes the reply to a message of an id, and says what is wrong with it in its sender's name."""


class Fetching:
    """What is fetched of the replies to messages that are out.

    Parameters
    ----------
    lane : ChunkLane
        Of this exchange alone.
    sent : mapping of id to Message
    exchange : Exchange
    spill : Spill, optional
        Where each reply goes as it is whole.
    pull : callable, (id, message, take) -> Found
    is_gone : callable, -> bool
        Says whether the SuperLink answers no question at all.
    dropped : callable, id -> None
        Is told of replies that were claimed and come to nobody.
    """

    def __init__(
        self,
        lane: ChunkLane,
        sent: Mapping[str, Message],
        exchange: Exchange,
        spill: Spill | None,
        pull: Pull,
        is_gone: Callable[[], bool],
        dropped: Callable[[str], None],
    ) -> None:
        self._lane, self._sent, self._exchange, self._spill = lane, sent, exchange, spill
        self._pull, self._is_gone, self._dropped = pull, is_gone, dropped
        self._unclaimed = dict.fromkeys(sent)
        self._claimed: dict[str, _Claimed] = {}

    def run(self) -> None:
        """Fetch until all replies are there or the exchange is over."""
        over = self._exchange.over
        pause = FIRST_POLL
        try:
            self._begin()
            while not over.is_set() and (self._unclaimed or self._claimed):
                before = self._state()
                self._claim()
                for id_, claimed in list(self._claimed.items()):
                    self._fetch(id_, claimed)
                pause = FIRST_POLL if self._state() != before else min(2 * pause, SLOWEST_POLL)
                over.wait(pause)
        except BaseException as stop:  # nobody answers any more, or the run was stopped
            self._tell("", stop, Look(over))
        finally:
            for id_, claimed in self._claimed.items():
                claimed.close()
                self._lane.drop(claimed.claim)
                self._dropped(id_)

    def _begin(self) -> None:
        """Begin the round of the lane with what is known from what was asked."""
        from flwr.supercore.inflatable.inflatable_object import (
            get_object_tree,
            no_object_id_recompute,
        )

        with no_object_id_recompute():
            tree = get_object_tree(next(iter(self._sent.values())))
        asked = [node.object_id for _, node in walk(tree)]
        objects = max(FEWEST_OBJECTS, 4 * len(asked))
        most = self._exchange.arrivals.most
        room = math.inf if self._spill is None else self._spill.lend()
        self._lane.begin(objects, most.size, most.beside + HEAD * objects, room, asked)

    def _state(self) -> tuple[int, int, int]:
        """Return what changes with everything that comes."""
        return self._lane.fetched_bytes, len(self._unclaimed), len(self._claimed)

    def _claim(self) -> None:
        """Claim what was announced; until it is fetched it is the server that holds it back."""
        for id_ in list(self._unclaimed):
            try:
                claim = self._lane.claim(id_)
            except Exception:
                if self._is_gone():
                    raise
                continue
            if claim is not None:
                del self._unclaimed[id_]
                self._claimed[id_] = _Claimed(claim, self._exchange)

    def _fetch(self, id_: str, claimed: _Claimed) -> None:
        """Fetch what is there of a reply, and hand it over if it is whole."""
        if self._exchange.over.is_set() or not self._has_turn(claimed):
            return
        with claimed.look() as look:

            def take(_: str) -> Message | None:
                return self._reply(id_, claimed.claim, look)

            found = self._pull(id_, self._sent[id_], take)
            if found is not None:
                del self._claimed[id_]
                self._tell(id_, found, look)

    def _has_turn(self, claimed: _Claimed) -> bool:
        """Say whether a reply may be begun: few may lie half fetched where memory is counted."""
        if self._spill is None or claimed.since is not None:
            return True
        now = time.monotonic()
        begun = [other.since for other in self._claimed.values() if other.since is not None]
        return sum(now - since < PATIENCE for since in begun) < AT_A_TIME

    def _reply(self, id_: str, claim: Claim, look: Look) -> Message | None:
        """Return a reply once it is whole, kept where its round keeps replies."""
        try:
            reply = self._lane.advance(claim, SLICE)
            while reply is None and not claim.waits and not look.over.is_set():
                self._claim()
                reply = self._lane.advance(claim, SLICE)
        except OddReplyError as error:
            reply = Message(RecordDict(), reply_to=self._sent[id_])
            reply.content = LetGo(str(error))
        except LostReplyError:
            raise
        except Exception:  # what was fetched is still here
            if self._is_gone():
                raise
            return None
        if reply is None or self._spill is None or look.over.is_set():
            return reply
        with look.held_back():
            return self._spill.kept(reply)

    def _tell(self, id_: str, found: Found, look: Look) -> None:
        self._exchange.tell(id_, found, look)
        self._exchange.news.put(None)


class _Claimed:
    """A reply that is claimed, and since when it is being fetched.

    The first look for it begins here: until it is fetched the server itself holds it back.
    """

    def __init__(self, claim: Claim, exchange: Exchange) -> None:
        self.claim = claim
        self.since: float | None = None
        self._exchange = exchange
        self._looking, self._holding = ExitStack(), ExitStack()
        self._first = self._looking.enter_context(exchange.look())
        self._holding.enter_context(self._first.held_back())

    @contextmanager
    def look(self) -> Iterator[Look]:
        """Go on looking for it."""
        if self.since is not None:
            with self._exchange.look() as look:
                yield look
            return
        self.since = time.monotonic()
        self._holding.close()
        with self._looking:
            yield self._first

    def close(self) -> None:
        """Look for it no more."""
        self._holding.close()
        self._looking.close()
