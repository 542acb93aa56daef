"""Flower's own grid and object store, and between them a wire that is a fake."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid


class Wire:
    """The three calls as the SuperLink's servicer answers them, on its own object store."""

    def __init__(self):
        self.store = InMemoryObjectStore()
        self.replies, self.pulled = {}, []
        self.client = SimpleNamespace(
            PullMessages=self.pull_messages,
            PullObject=self.pull_object,
            ConfirmMessageReceived=self.confirm,
        )

    def announce(self, reply, without=()):
        """Have a reply announced, and all its objects but some uploaded."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.store.preregister(1, get_object_tree(reply))
        for id_, object_ in get_all_nested_objects(reply).items():
            if id_ not in without:
                self.store.put(id_, object_.deflate())
        self.replies[reply.metadata.reply_to_message_id] = reply
        return reply

    def pull_messages(self, request):
        there = [self.replies.pop(id_) for id_ in request.message_ids if id_ in self.replies]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(m)) for m in there],
            message_object_trees=[self.store.get_object_tree(m.object_id) for m in there],
        )

    def pull_object(self, request):
        content = self.store.get(request.object_id)
        self.pulled += [request.object_id] if content else []
        return PullObjectResponse(
            object_found=content is not None,
            object_available=bool(content),
            object_content=content or b"",
        )

    def confirm(self, request):
        self.store.delete(request.message_object_id)


class WiredGrid(HttpGrid):
    """Flower's grid on a wire, and nodes that answer as soon as they are asked.

    Parameters
    ----------
    nodes : node ids
    answer : callable, message -> Message or None
    withheld : mapping of node id to callable, reply -> object ids
        Objects of a node's reply that are announced and never uploaded.
    """

    def __init__(self, nodes, answer, withheld=None):
        super().__init__(token="t")
        self.set_run(Run.create_empty(1))
        self.wire = Wire()
        self._client = self.wire.client
        self.nodes, self.answer, self.withheld = list(nodes), answer, dict(withheld or {})
        self.asked = Counter()
        self.whole = 0
        """Replies that were pulled as Flower itself does."""

    def get_nodes(self):
        return [NodeInfo(node_id=node) for node in self.nodes]

    def push_messages(self, messages):
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            ids.append(message.metadata.message_id)
            node = message.metadata.dst_node_id
            self.asked[node] += 1
            if (reply := self.answer(message)) is not None:
                without = self.withheld.get(node, lambda _: ())
                self.wire.announce(reply, without=without(reply))
        return ids

    def pull_messages(self, message_ids):
        self.whole += 1
        return super().pull_messages(message_ids)
