"""Flower's own grid on the state and the handlers of its SuperLink; only HTTP is left out."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

from flwr.app.message import remove_content_from_message
from flwr.common.constant import NOOP_FLWR_AID
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.superlink.servicer.runtime import runtime_handlers

CALLS = {
    "PushMessages": "push_messages",
    "PullMessages": "pull_messages",
    "GetNodes": "get_nodes",
    "PushObject": "push_object",
    "PullObject": "pull_object",
    "ConfirmMessageReceived": "confirm_message_received",
}


class SuperLinkGrid(HttpGrid):
    """A grid whose nodes take their message, and when all have theirs answer one by one, in order.

    Parameters
    ----------
    n : int
        Nodes.
    answer : callable, (grid, place of the node, message) -> None
        Answers, with `announce` and `upload`, as a node that may be hostile.
    """

    def __init__(self, n, answer):
        super().__init__(token="t")
        self.state = LinkStateFactory(
            FLWR_IN_MEMORY_DB_NAME,
            NoOpFederationManager(),
            ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME),
        ).state()
        self.run_id = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        self.set_run(Run.create_empty(self.run_id))
        self._client = SimpleNamespace(**{call: self._called(call) for call in CALLS})
        self.nodes = []
        for place in range(n):
            node = self.state.create_node("", "", str(place).encode(), 1e4)
            self.state.activate_node(node, 1e4)
            self.nodes.append(node)
        self.answer = answer
        self.sessions = {}

    def _called(self, call):
        handler = getattr(runtime_handlers, CALLS[call])

        def handled(request):
            answer = handler(request, self.state, SimpleNamespace(run_id=self.run_id))
            try:
                return type(answer).FromString(answer.SerializeToString())
            except Exception as error:
                raise ValueError("Invalid protobuf response payload") from error  # as its client

        return handled

    def push_messages(self, messages):
        for message in messages:
            message.metadata.__dict__["_run_id"] = self.run_id
        ids = super().push_messages(messages)
        for message in messages:
            self.state.get_message_ins(message.metadata.dst_node_id, 1)
            self.state.object_store.delete(message.metadata.message_id)
        asked = {message.metadata.dst_node_id: message for message in messages}
        for place, node in enumerate(self.nodes):
            if node in asked:
                self.answer(self, place, asked[node])
        return ids

    def announce(self, reply, tree=None):
        """Announce a reply, by its own tree or by another, and return what is to be uploaded."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        session = self.sessions[reply.object_id] = self.state.start_session(self.run_id)
        own = get_object_tree(reply)
        _, missing = self.state.store_message_and_object_tree(
            remove_content_from_message(reply), tree or own, session
        )
        return missing

    def upload(self, reply, missing):
        """Upload some objects of a reply, and say which the SuperLink took."""
        return {
            id_: self.state.store_object(
                self.run_id, self.sessions[reply.object_id], id_, object_.deflate()
            )
            for id_, object_ in get_all_nested_objects(reply).items()
            if id_ in missing
        }

    def nested(self, depth):
        """Have a chain of so many objects announced, and return a tree that names the first.

        In pieces: a tree that is sent may be less than a hundred deep.
        """
        session = self.state.start_session(self.run_id)
        tree = None
        for place in range(depth):
            name = hashlib.sha256(str(place).encode()).hexdigest()
            tree = ObjectTree(object_id=name, children=[] if tree is None else [tree])
            if place % 50 == 0:
                self.state.preregister_object_tree(tree, session)
                tree = ObjectTree(object_id=name)
        self.state.preregister_object_tree(tree, session)
        return ObjectTree(object_id=tree.object_id)
