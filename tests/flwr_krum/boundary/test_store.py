"""What Flower's own SuperLink state keeps of replies that came too late: nothing, after a round."""

import secrets
from threading import Timer
from uuid import uuid4

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import HEARTBEAT_INTERVAL_INF, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from flwr_krum.boundary.arrivals import ArrivingGrid
from flwr_krum.boundary.questions import Arrivals, Questions
from flwr_krum.boundary.quorum import Quorum

N = 6


class Nodes:
    """Nodes of a SuperLink's state, which answer when a test says so."""

    def __init__(self):
        factory = LinkStateFactory(
            FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()
        )
        self.state = factory.state()
        self.ids = [self._join() for _ in range(N)]
        run_id = self.state.create_run(
            None, None, None, {}, "@none/default", None, NOOP_FLWR_AID, "serverapp"
        )
        inner = InMemoryGrid(factory)
        inner.set_run(self.state.get_run_info(run_ids=[run_id])[0])
        self.grid = ArrivingGrid(inner)

    def _join(self):
        key = secrets.token_bytes(32)
        node = self.state.create_node(
            NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, heartbeat_interval=HEARTBEAT_INTERVAL_INF
        )
        self.state.acknowledge_node_heartbeat(node, HEARTBEAT_INTERVAL_INF)
        return node

    def answer(self, nodes):
        """Answer all that these nodes were asked; return the ids under which replies are kept."""
        asked = [m for node in nodes for m in self.state.get_message_ins(node, None)]
        return [self.reply(message) for message in asked]

    def reply(self, message):
        reply = Message(RecordDict(), reply_to=message)
        reply.metadata.__dict__["_message_id"] = str(uuid4())
        return self.state.store_message_res(reply)

    def ask(self, answering, least=4):
        """Ask all with a quorum, have some answer, and return who did and who was late."""
        notes = Arrivals(Quorum(least, grace=0.0, wait=0.0))
        run_id = self.grid.run.run_id
        asked = [Message(RecordDict(), node, "train") for node in self.ids]
        for message in asked:
            message.metadata.__dict__["_run_id"] = run_id
            message.metadata.__dict__["_src_node_id"] = 1
        Timer(0.1, self.answer, [answering]).start()
        replies = self.grid.send_and_receive(Questions(asked, notes), timeout=20.0)
        assert not any(reply.has_error() for reply in replies)
        return [reply.metadata.src_node_id for reply in replies], notes.late

    @property
    def kept(self):
        state = self.state
        return len(state.message_ins_store), len(state.message_res_store)


@pytest.fixture
def nodes():
    return Nodes()


def test_the_store_is_as_it_was_after_each_round_in_which_late_replies_were_drained(nodes):
    assert nodes.kept == (0, 0)
    late = nodes.ids[:2]
    for _ in range(3):
        assert nodes.ask(nodes.ids[2:]) == (nodes.ids[2:], late)
        assert nodes.kept == (2, 0)  # two messages that are being worked on
        assert len(nodes.answer(late)) == 2
        assert nodes.kept == (2, 2)
        assert nodes.ask(nodes.ids, least=N) == (nodes.ids, [])
        assert nodes.kept == (0, 0)


def test_the_superlink_keeps_one_reply_to_a_message(nodes):
    nodes.ask(nodes.ids[2:])
    (message,) = nodes.state.get_message_ins(nodes.ids[0], None)
    assert nodes.reply(message) is not None
    assert nodes.reply(message) is None
