"""Replies as they arrive: an exchange with nodes that ends when it is due, whatever they send.

Flower announces a reply before its bytes are there, and waits for them inside ``pull_messages``:
one node that uploads slowly holds back all replies, and one whose reply cannot be read ends the
run. `ArrivingGrid` stands between a strategy and Flower's grid, so that neither happens. Where a
quorum closes an exchange, it also remembers who owes a reply, and has it dropped when it comes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from flwr_krum.boundary.crew import Crew
from flwr_krum.boundary.debts import FIRST_POLL, SLOWEST_POLL, Debts
from flwr_krum.boundary.exchange import Exchange, Found, Look, Take
from flwr_krum.boundary.fetching import Fetching
from flwr_krum.boundary.lane import ChunkLane
from flwr_krum.boundary.questions import Arrivals, Fetched, Questions
from flwr_krum.boundary.replies import on_one_line
from flwr_krum.boundary.spill import Spill

if TYPE_CHECKING:
    from flwr.superlink.grid.http_grid import HttpGrid

TTL_MARGIN = 60.0
"""Seconds for which a message outlives its round, so that its fate can still be asked for."""

FIRST_LOOK = 0.25
"""Seconds in which replies that are there at once are expected, before each is waited for."""

HELD = 1.0
"""Seconds after which a pull that goes on is not a question any more, but a slow upload."""

LONGEST = 1e6
"""Seconds, eleven days, after which also an exchange without a deadline is over."""

STILL_SENDING = "not asked: it is still sending its reply to an earlier message"
NOT_TAKEN = "not asked: the message was not taken; the node is gone, or the message too large"

_POLLS_PER_SECOND = 200.0

_TICK = 0.01
"""Seconds that are waited at least where a close is put off from one moment to the next."""

_T = TypeVar("_T")


class PromptGrid(Grid):
    """A Grid whose ``send_and_receive`` has one reply to each message at once, in their order.

    Its nodes are functions of this process: there is nothing to wait for.
    """


class ArrivingGrid(Grid):
    """A Grid whose exchanges end when they are due, with all replies that came.

    Each message's reply is pulled in a daemon thread of its own: a node that drips, hangs or dies
    holds that thread and nothing else, and is not asked again before its upload has ended.

    Parameters
    ----------
    grid : Grid
        Does the work.
    timeout : float, optional
        Seconds to wait for replies at most, also where the caller would wait longer.
    spill : Spill, optional
        Where replies go that do not fit into memory, each as it arrives.
    lane : bool (default: False)
        Fetch replies object by object, each object once, where this grid and Flower let it; the
        log says why if they do not. One thread then fetches them all, and waits for none.
    """

    def __init__(
        self,
        grid: Grid,
        timeout: float | None = None,
        spill: Spill | None = None,
        lane: bool = False,
    ) -> None:
        self._grid = grid
        self.use(spill, lane)
        self._timeout = LONGEST if timeout is None else timeout
        self._crew = Crew()
        self._pulls: dict[str, tuple[int, float]] = {}
        """Node and beginning of every pull that is going on, by the message's id."""
        self._debts = Debts(self._crew, self._drop)

    def use(self, spill: Spill | None, lane: bool) -> None:
        """Keep and fetch replies from now on as a new grid would with these."""
        self.spill = spill
        self.has_lane = lane and ChunkLane.open(self._grid) is not None

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push messages and return what was answered in time, one reply to a message at most.

        A message that cannot be sent, a reply that cannot be read, and what the SuperLink says of
        a node that is gone, come back as error replies of the node that was asked. The replies
        are in the order of their messages.

        `Questions` get notes of when replies came, and may be over before the deadline: as soon as
        their quorum closes them. Whoever has not answered then owes a reply. It is pulled and
        dropped in the following exchanges, and until that is done, or its message has expired,
        the node is not asked as long as the quorum can do without it: it has no reply there, and
        is noted as late.
        """
        begin = time.monotonic()
        arrivals = messages.arrivals if isinstance(messages, Questions) else Arrivals()
        asked = list(messages)
        if isinstance(self._grid, PromptGrid):
            return list(map(_signed, self._kept(self._grid.send_and_receive(asked)), asked))
        patience = self._timeout if timeout is None else min(timeout, self._timeout)
        for metadata in [message.metadata for message in asked]:
            # A node that comes back after hours must not answer the rounds of all these hours.
            metadata.ttl = min(metadata.ttl, patience + TTL_MARGIN)
        exchange = Exchange(arrivals, begin, patience)
        try:
            nodes = [message.metadata.dst_node_id for message in asked]
            owe = self._debts.debtors(exchange.over, FIRST_LOOK, self._pulls)
            debtors = owe.intersection(nodes)
            if not arrivals.may_leave_out(len(debtors), len(asked)):
                debtors = frozenset()
            arrivals.late += [node for node in nodes if node in debtors]
            return self._exchanged(
                [m for m, node in zip(asked, nodes, strict=True) if node not in debtors], exchange
            )
        finally:
            exchange.over.set()

    def _exchanged(self, asked: list[Message], exchange: Exchange) -> list[Message]:
        """Return the replies of nodes that owe none."""
        owing = self._owing()
        free = [m for m in asked if m.metadata.dst_node_id not in owing] if owing else asked
        sent = self._push(free) if free else {}
        if free and not sent:  # a grid of one's own may do nothing but this
            sent_back = self._grid.send_and_receive(free, timeout=exchange.patience)
            replies = list(self._kept(sent_back))
            if replies:
                return replies
        if exchange.arrivals.quorum is not None:
            self._debts.add(sent)
        found = self._collect(sent, exchange)
        if exchange.arrivals.close < exchange.patience:
            late = [m.metadata.dst_node_id for id_, m in sent.items() if id_ not in found]
            exchange.arrivals.late += late
        if len(sent) == len(asked):
            return [found[id_] for id_ in sent if id_ in found]
        return self._with_the_unasked(asked, sent, found, owing)

    def _with_the_unasked(
        self,
        asked: list[Message],
        sent: dict[str, Message],
        found: dict[str, Message],
        owing: set[int],
    ) -> list[Message]:
        """Return the replies, and an error in place of each for which there was no message."""
        id_of = {id(message): id_ for id_, message in sent.items()}
        replies = []
        for message in asked:
            if id(message) not in id_of:
                is_owing = message.metadata.dst_node_id in owing
                reason = STILL_SENDING if is_owing else NOT_TAKEN
                replies.append(_error(message, ErrorCode.NODE_UNAVAILABLE, reason))
            elif id_of[id(message)] in found:
                replies.append(found[id_of[id(message)]])
        return replies

    def _owing(self) -> set[int]:
        """Return the nodes whose upload of an earlier reply is still waited for."""
        now = time.monotonic()
        return {node for node, since in list(self._pulls.values()) if now - since > HELD}

    def _push(self, messages: list[Message]) -> dict[str, Message]:
        """Push messages and return those that were taken, by their ids."""
        try:
            ids = list(self._grid.push_messages(messages) or ())
        except NotImplementedError:
            return {}
        if len(ids) == len(messages):  # those that were not taken have None for an id
            pairs = list(zip(ids, messages, strict=True))
        else:  # or are left out
            by_id = {message.metadata.message_id: message for message in messages}
            pairs = [(id_, by_id[id_]) for id_ in ids if id_ in by_id]
        return {id_: message for id_, message in pairs if id_}

    def _collect(self, sent: dict[str, Message], exchange: Exchange) -> dict[str, Message]:
        """Return the replies that come until the exchange closes, by the ids of their messages.

        One thread looks for what is there at once: where nodes are simulated in this process that
        is all. Whatever it does not get to, or finds nothing of, is waited for by itself.
        """
        lane = ChunkLane(cast("HttpGrid", self._grid)) if self.has_lane and sent else None
        unseen = deque(sent if lane is None else ())
        replies: dict[str, Message] = {}
        slowest = max(SLOWEST_POLL, len(sent) / _POLLS_PER_SECOND)

        def look_at_all() -> None:
            while not exchange.over.is_set() and (id_ := _taken_from(unseen)) is not None:
                with exchange.look() as look:
                    exchange.tell(id_, self._pull(id_, sent[id_], self._keeping(look)), look)
            exchange.news.put(None)

        def wait_for(id_: str) -> None:
            self._crew.do(partial(self._fetch, id_, sent[id_], slowest, exchange))

        if lane is not None:
            exits = (self._pull, self._is_gone, self._debts.settle)
            self._crew.do(Fetching(lane, sent, exchange, self.spill, *exits).run)
        elif sent:
            self._crew.do(look_at_all)
        patience = FIRST_LOOK
        while len(replies) < len(sent):
            with suppress(Empty):
                exchange.news.get(timeout=min(max(exchange.left, _TICK), patience))
            patience = LONGEST
            missed = []
            while (found := _taken_from(exchange.found)) is not None:
                id_, reply, seconds = found
                if isinstance(reply, Message):
                    replies[id_] = reply
                    exchange.arrivals.note(sent[id_].metadata.dst_node_id, reply, seconds)
                elif reply is not None:
                    raise reply
                else:
                    missed.append(id_)
            if not exchange.left:
                break
            while (unseen_id := _taken_from(unseen)) is not None:
                missed.append(unseen_id)
            for id_ in missed:
                wait_for(id_)
        if lane is not None:
            exchange.arrivals.fetched = Fetched(lane.fetched_bytes, lane.distinct_bytes)
        return replies

    def _fetch(self, id_: str, asked: Message, slowest: float, exchange: Exchange) -> None:
        """Pull the reply to one message until it is there or the exchange is over."""
        pause = FIRST_POLL
        while not exchange.over.is_set():
            with exchange.look() as look:
                reply = self._pull(id_, asked, self._keeping(look))
                if reply is not None:
                    exchange.tell(id_, reply, look)
                    exchange.news.put(None)
                    return
            exchange.over.wait(pause)
            pause = min(2 * pause, slowest)

    def _pull(self, id_: str, asked: Message, take: Take) -> Found:
        """Return the reply to one message, if it is there: nobody's reply can hide another's."""
        self._pulls[id_] = asked.metadata.dst_node_id, time.monotonic()
        try:
            reply = take(id_)
            if reply is None:
                return None
            self._debts.settle(id_)
            return _signed(reply, asked)
        except Exception as error:
            self._debts.settle(id_)
            if self._is_gone():
                return error
            reason = f"unreadable reply: {type(error).__name__}: {on_one_line(error)}"
            return _error(asked, ErrorCode.MESSAGE_UNAVAILABLE, reason)
        except BaseException as stop:  # how Flower says that the run was stopped
            return stop
        finally:
            self._pulls.pop(id_, None)

    def _drop(self, id_: str, asked: Message) -> bool:
        """Take a reply for which nobody waits any more, and say whether it was there."""
        take = partial(self._unread, asked) if self.has_lane else self._taken
        return self._pull(id_, asked, take) is not None

    def _unread(self, asked: Message, id_: str) -> Message | None:
        """Let the SuperLink drop a reply: none of it is fetched."""
        lane = ChunkLane(cast("HttpGrid", self._grid))
        if (claim := lane.claim(id_)) is None:
            return None
        lane.drop(claim)
        return Message(RecordDict(), reply_to=asked)

    def _taken(self, id_: str) -> Message | None:
        return next(iter(self._grid.pull_messages([id_])), None)

    def _keeping(self, look: Look) -> Take:
        """Return what takes a reply, if it is there, and keeps it where its round keeps replies."""
        spill = self.spill
        if spill is None:
            return self._taken
        return lambda id_: spill.pulled(partial(self._taken, id_), look)

    def _kept(self, replies: Iterable[Message]) -> Iterable[Message]:
        return replies if self.spill is None else map(self.spill.kept, replies)

    def _is_gone(self) -> bool:
        """Say whether the SuperLink answers no question at all: then no reply is to blame."""
        try:
            list(self._grid.get_node_ids())
        except BaseException:
            return True
        return False

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run that the grid serves."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message to a node."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are connected."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return what the SuperLink knows about the nodes."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies; this waits for those who upload them."""
        return self._grid.pull_messages(message_ids)

    def __getattr__(self, name: str) -> Any:
        if name == "_grid":  # not there yet, or never: an unpickled or copied one
            raise AttributeError(name)
        return getattr(self._grid, name)


def arriving(grid: Grid, spill: Spill | None = None, lane: bool = False) -> Grid:
    """Return a grid as an `ArrivingGrid`; one that only looks like a Grid is left as it is."""
    # By its type: a mock says of itself that it is an instance of anything.
    if not issubclass(type(grid), Grid):
        return grid
    if isinstance(grid, ArrivingGrid):
        grid.use(spill, lane)
        return grid
    return ArrivingGrid(grid, spill=spill, lane=lane)


def _taken_from(items: deque[_T]) -> _T | None:
    """Return the first of the items, taken out; None where another thread took the last."""
    try:
        return items.popleft()
    except IndexError:
        return None


def _signed(reply: Message, asked: Message) -> Message:
    """Return a reply as that of the node that was asked, whatever it is signed with."""
    signature, node = reply.metadata.src_node_id, asked.metadata.dst_node_id
    if signature == node:
        return reply
    if reply.has_error():
        return Message(reply.error, reply_to=asked)
    reason = f"unreadable reply: it is signed by node {signature}"
    return _error(asked, ErrorCode.MESSAGE_UNAVAILABLE, reason)


def _error(asked: Message, code: int, reason: str) -> Message:
    return Message(Error(code, reason), reply_to=asked)
