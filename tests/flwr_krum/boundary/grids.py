"""A grid whose nodes behave as a test wants them to: in time, late, never, unreadable, gone."""

from __future__ import annotations

import time
from collections import Counter
from threading import Event, Lock

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run, RunNotRunningException


class ScriptedGrid(Grid):
    """Nodes with a script each.

    Parameters
    ----------
    nodes : node ids
    answer : callable, message -> Message
        What an ordinary node replies.
    scripts : mapping of node id to callable, (grid, message) -> Message or None
        What happens instead when the reply of this node is pulled; it may raise or block.
    """

    def __init__(self, nodes, answer=None, scripts=None, names=None):
        self.nodes, self.names = list(nodes), names or {}
        self.answer = answer or (lambda message: Message(RecordDict(), reply_to=message))
        self.scripts = dict(scripts or {})
        self.sent, self.pulls, self.delivered = {}, Counter(), set()
        self.refuses = set()
        self.pushed_at = 0.0
        self.lock = Lock()
        self.ended = Event()
        """Set by a test at its end, so that no thread of it outlives it."""

    def set_run(self, run):
        self._run = run

    @property
    def run(self):
        return Run.create_empty(1)

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self):
        if self.ended.is_set():  # so that also Flower's own threads end
            raise RunNotRunningException
        return list(self.nodes)

    def get_nodes(self):
        return [NodeInfo(node_id=node, name=self.names.get(node, "")) for node in self.nodes]

    def push_messages(self, messages):
        ids = []
        for message in messages:
            if message.metadata.dst_node_id in self.refuses:
                ids.append(None)
                continue
            id_ = str(len(self.sent) + 1)
            message.metadata.__dict__["_message_id"] = id_
            self.sent[id_] = message
            ids.append(id_)
        self.pushed_at = time.monotonic()
        return ids

    def pull_messages(self, message_ids):
        replies = []
        for id_ in message_ids:
            message = self.sent[id_]
            node = message.metadata.dst_node_id
            with self.lock:
                self.pulls[node] += 1
            script = self.scripts.get(node)
            reply = self.answer(message) if script is None else script(self, message)
            if reply is not None:
                assert id_ not in self.delivered, "a reply is delivered once"
                self.delivered.add(id_)
                replies.append(reply)
        return replies

    @property
    def stored(self):
        """The ids of messages whose reply nobody has taken."""
        return set(self.sent) - self.delivered

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("Flower's own waiting must not be used")


def silent(grid, message):
    return None


def blocking(seconds):
    """Return the script of a node that uploads for so long: the pull waits for it."""

    def script(grid, message):
        grid.ended.wait(seconds)
        return grid.answer(message)

    return script


def after(seconds):
    """Return the script of a node that answers so long after it was asked."""

    def script(grid, message):
        late = time.monotonic() - grid.pushed_at >= seconds
        return grid.answer(message) if late else None

    return script


def raising(error):
    """Return the script of a node whose reply cannot be read."""

    def script(grid, message):
        raise error

    return script


def gone(grid, message):
    """Answer as the SuperLink does for a node that is gone."""
    reply = Message(Error(5, "Node Unavailable"), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID
    return reply


def once(event):
    """Return the script of a node that answers as soon as an event has happened."""

    def script(grid, message):
        return grid.answer(message) if event.is_set() else None

    return script
