"""The nodes of a run as its server sees them: what they are called, and waiting that ends.

Flower waits for ever in several places: for nodes that never come back, for the reply of one that
hangs. And one reply that cannot be read ends its ServerApp. `BoundedGrid` stands between a strategy
and Flower, so that a round takes what came and goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import httpx
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run, RunNotRunningException

from flwr_krum.boundary.replies import ClientId, on_one_line

TTL_MARGIN = 60.0
"""Seconds for which a message outlives its round, so that its fate can still be asked for."""

_FIRST_POLL, _SLOWEST_POLL = 0.05, 1.0


class BoundedGrid(Grid):
    """A Grid that waits ``timeout`` seconds at most, and survives any reply.

    Parameters
    ----------
    grid : Grid
        Does the work.
    timeout : float
        Seconds to wait for replies, and for enough nodes at the beginning of a round.
    least : int
        Nodes without which a round is not worth beginning.
    """

    def __init__(self, grid: Grid, timeout: float, least: int) -> None:
        self._grid = grid
        self._timeout = timeout
        self._least = least
        self._connected: list[int] | None = None

    def begin_round(self) -> None:
        """Fix the nodes of the coming round: those connected once there are enough, or in the end.

        Strategies count the nodes before they sample them, and wait for ever if one has left in
        between; so they are shown the same nodes until the next round begins.
        """
        self._connected = wait_for_nodes(self._grid, self._least, self._timeout)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of the round."""
        if self._connected is None:
            return self._grid.get_node_ids()
        return list(self._connected)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and return what was answered in time, one reply to a message at most.

        A reply that cannot be read, or that the SuperLink gives for a node that is gone, comes
        back as an error reply of the node that was asked.
        """
        sent = list(messages)
        if not sent:
            return []
        patience = self._timeout if timeout is None else min(timeout, self._timeout)
        for message in sent:
            # A node that comes back after hours must not answer the rounds of all these hours.
            message.metadata.ttl = min(message.metadata.ttl, patience + TTL_MARGIN)
        deadline = time.monotonic() + patience
        pending = dict(zip(self._grid.push_messages(sent), sent, strict=False))
        replies: list[Message] = []
        pause = _FIRST_POLL
        while True:
            for message_id in list(pending):
                reply = self._pull(message_id, pending[message_id])
                if reply is not None:
                    replies.append(reply)
                    del pending[message_id]
            if not pending or time.monotonic() > deadline:
                return replies
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, _SLOWEST_POLL)

    def _pull(self, message_id: str, asked: Message) -> Message | None:
        """Return the reply to one message, if it is there: nobody's reply can hide another's."""
        try:
            reply = next(iter(self._grid.pull_messages([message_id])), None)
        except (httpx.TransportError, RunNotRunningException):
            raise  # no reply is to blame: the SuperLink is gone, or the run was stopped
        except Exception as error:
            reason = f"unreadable reply: {type(error).__name__}: {error}"
            return Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, reason), reply_to=asked)
        return None if reply is None else _signed(reply, asked)

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

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return what the SuperLink knows about the nodes."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies."""
        return self._grid.pull_messages(message_ids)


def wait_for_nodes(grid: Grid, count: int, timeout: float) -> list[int]:
    """Return the connected nodes as soon as there are ``count``, or those there are in the end."""
    deadline = time.monotonic() + timeout
    while len(nodes := list(grid.get_node_ids())) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return nodes


def name_nodes(grid: Grid) -> tuple[dict[int, ClientId], list[str]]:
    """Give every connected node a name that is its own in every run.

    That is the name under which its key was registered with the SuperLink, where it has one (a
    number is taken as such), else the partition that it says it holds. A name that two nodes
    claim is nobody's, and a registered one is never another's: no node can pass for another.

    Returns
    -------
    names : dict of node id to name
        Without the nodes that have none.
    problems : list of str
        Why they have none.
    """
    nodes = {node.node_id: node.name for node in grid.get_nodes()}
    registered = {node: _as_client_id(name) for node, name in nodes.items() if name}
    unnamed = [node for node in nodes if node not in registered]
    questions = [Message(RecordDict(), node, "query") for node in unnamed]
    answers = {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(questions)}
    claims: dict[int, ClientId] = {}
    problems = []
    for node in unnamed:
        try:
            claims[node] = _partition_in(answers.get(node))
        except ValueError as error:
            problems.append(f"node {node} cannot say its partition: {on_one_line(error)}")
    names: dict[int, ClientId] = {}
    # What the operator registered is settled before what nodes say of themselves is heard.
    for claimants in (registered, claims):
        taken, counts = set(names.values()), Counter(claimants.values())
        for node, name in claimants.items():
            if name in taken or counts[name] > 1:
                problems.append(f"node {node} claims the name {name}, which is another's as well")
            else:
                names[node] = name
    return names, problems


def _as_client_id(name: str) -> ClientId:
    return int(name) if name.isdecimal() and len(name) < 19 else name


def _partition_in(reply: Message | None) -> int:
    """Return the partition that a node claims.

    Raises
    ------
    ValueError
        If it claims none, whatever it says instead.
    """
    if reply is None:
        raise ValueError("no answer in time")
    if reply.has_error():
        raise ValueError(reply.error.reason)
    partition = reply.content.metric_records.get("node", MetricRecord()).get("partition-id")
    if not isinstance(partition, int) or partition < 0:
        raise ValueError(f"it answers {partition!r}")
    return partition


def _signed(reply: Message, asked: Message) -> Message:
    """Return an error reply as that of the node that was asked, others as they are."""
    if not reply.has_error() or reply.metadata.src_node_id != SUPERLINK_NODE_ID:
        return reply
    return Message(reply.error, reply_to=asked)
