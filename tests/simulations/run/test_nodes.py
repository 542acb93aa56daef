import time

import pytest
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.node_pb2 import NodeInfo

from flwr_krum.boundary.arrivals import TTL_MARGIN
from flwr_krum.boundary.nodes import name_nodes
from simulations.engines.inprocess import InProcessGrid
from simulations.run.nodes import RoundGrid, wait_for_nodes


class Faulty(InProcessGrid):
    """A grid on which chosen nodes are silent, unreadable or gone, or leave and come back."""

    def __init__(self, client_app, n, silent=(), unreadable=(), gone=(), registered=None):
        super().__init__(client_app, n)
        self.silent, self.unreadable, self.gone = set(silent), set(unreadable), set(gone)
        self.registered = registered or {}
        self.offline = set()
        self.sent = {}

    def push_messages(self, messages):
        messages = list(messages)
        ids = list(super().push_messages(messages))
        self.sent.update(zip(ids, messages, strict=True))
        return ids

    def pull_messages(self, message_ids):
        replies = []
        for reply in super().pull_messages(message_ids):
            node = reply.metadata.src_node_id
            if node in self.unreadable:
                raise KeyError("no such object")
            if node in self.gone:
                error = Error(9, "Node Unavailable")
                reply = Message(error, reply_to=self.sent[reply.metadata.reply_to_message_id])
                reply.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID
            if node not in self.silent:
                replies.append(reply)
        return replies

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node not in self.offline]

    def get_nodes(self):
        return [
            NodeInfo(node_id=node, name=self.registered.get(node, ""))
            for node in self.get_node_ids()
        ]


def answering(partitions=None):
    """A ClientApp that says its partition, or what is in `partitions` for it."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        own = context.node_config["partition-id"]
        claim = (partitions or {}).get(own, own)
        if isinstance(claim, int):
            claim = MetricRecord({"partition-id": claim})
        content = {} if claim is None else {"node": claim}
        return Message(RecordDict(content), reply_to=message)

    return app


def ask(grid, nodes):
    return grid.send_and_receive([Message(RecordDict(), node, "query") for node in nodes])


def test_replies_that_come_in_time_are_returned_and_the_others_not_waited_for():
    grid = RoundGrid(Faulty(answering(), 4, silent=[3]), timeout=0.4, least=1)
    start = time.monotonic()
    replies = ask(grid, [2, 3, 4, 5])
    assert 0.4 <= time.monotonic() - start < 2.0
    assert [reply.metadata.src_node_id for reply in replies] == [2, 4, 5]


def test_no_time_is_lost_when_all_have_answered():
    grid = RoundGrid(Faulty(answering(), 3), timeout=60.0, least=1)
    start = time.monotonic()
    assert len(ask(grid, [2, 3, 4])) == 3
    assert time.monotonic() - start < 2.0


def test_a_shorter_patience_of_the_caller_is_kept():
    grid = RoundGrid(Faulty(answering(), 1, silent=[2]), timeout=60.0, least=1)
    start = time.monotonic()
    assert grid.send_and_receive([Message(RecordDict(), 2, "query")], timeout=0.2) == []
    assert time.monotonic() - start < 2.0


def test_a_reply_that_cannot_be_read_is_a_failure_of_its_node_and_hides_no_other():
    grid = RoundGrid(Faulty(answering(), 3, unreadable=[3]), timeout=5.0, least=1)
    replies = {reply.metadata.src_node_id: reply for reply in ask(grid, [2, 3, 4])}
    assert set(replies) == {2, 3, 4}
    assert replies[3].error.reason == "unreadable reply: KeyError: 'no such object'"
    assert not replies[2].has_error()
    assert not replies[4].has_error()


def test_the_superlinks_word_for_a_dead_node_is_signed_with_that_node():
    grid = RoundGrid(Faulty(answering(), 2, gone=[3]), timeout=5.0, least=1)
    replies = {reply.metadata.src_node_id: reply for reply in ask(grid, [2, 3])}
    assert set(replies) == {2, 3}
    assert replies[3].error.reason == "Node Unavailable"


def test_messages_do_not_outlive_their_round_by_hours():
    inner = Faulty(answering(), 1)
    ask(RoundGrid(inner, timeout=7.0, least=1), [2])
    (message,) = inner.sent.values()
    assert message.metadata.ttl == 7.0 + TTL_MARGIN


def test_nothing_is_asked_of_nobody():
    assert list(RoundGrid(Faulty(answering(), 1), timeout=5.0, least=1).send_and_receive([])) == []


def test_a_round_is_shown_the_same_nodes_until_the_next_begins():
    inner = Faulty(answering(), 3)
    grid = RoundGrid(inner, timeout=5.0, least=2)
    assert list(grid.get_node_ids()) == [2, 3, 4]
    grid.begin_round()
    inner.offline = {4}
    assert list(grid.get_node_ids()) == [2, 3, 4]
    grid.begin_round()
    assert list(grid.get_node_ids()) == [2, 3]


def test_a_round_waits_for_enough_nodes_and_not_for_ever():
    inner = Faulty(answering(), 3)
    inner.offline = {3, 4}
    grid = RoundGrid(inner, timeout=0.5, least=2)
    start = time.monotonic()
    grid.begin_round()
    assert 0.5 <= time.monotonic() - start < 2.0
    assert list(grid.get_node_ids()) == [2]


def test_waiting_for_nodes_ends_when_they_are_there():
    start = time.monotonic()
    assert wait_for_nodes(Faulty(answering(), 3), 3, 60.0) == [2, 3, 4]
    assert time.monotonic() - start < 2.0


def named(partitions=None, **faults):
    n = 4
    return name_nodes(RoundGrid(Faulty(answering(partitions), n, **faults), 0.3, 1))


def test_nodes_are_called_by_the_partitions_that_they_hold():
    assert named() == ({2: 0, 3: 1, 4: 2, 5: 3}, [])


def test_the_name_of_a_registered_key_wins_and_a_number_is_taken_as_such():
    registered = {2: "hospital-a", 3: "7", 4: "007-b"}
    names, problems = named({0: 9, 1: 9, 2: 9}, registered=registered)
    assert names == {2: "hospital-a", 3: 7, 4: "007-b", 5: 3}
    assert problems == []


def test_a_name_that_two_nodes_claim_is_nobodys():
    names, problems = named({3: 1})
    assert names == {2: 0, 4: 2}
    said = "claims the name 1, which is another's as well"
    assert problems == [f"node {node} {said}" for node in (3, 5)]


def test_nobody_can_take_the_name_of_a_registered_node_for_itself():
    names, problems = named({3: 7}, registered={2: "7"})
    assert names == {2: 7, 3: 1, 4: 2}
    assert problems == ["node 5 claims the name 7, which is another's as well"]


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (None, "it answers None"),
        (-1, "it answers -1"),
        (MetricRecord({"partition-id": [1, 2]}), r"it answers [1, 2]"),
        (MetricRecord({"partition-id": 0.5}), "it answers 0.5"),
        (MetricRecord({"other": 1}), "it answers None"),
    ],
)
def test_a_node_that_claims_nothing_sensible_has_no_name_and_ends_nothing(claim, said):
    names, problems = named({3: claim})
    assert names == {2: 0, 3: 1, 4: 2}
    assert problems == [f"node 5 cannot say its partition: {said}"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("silent", "no answer in time"), ("unreadable", "unreadable reply"), ("gone", "Node Unavail")],
)
def test_a_node_that_fails_to_answer_has_no_name_and_ends_nothing(fault, said):
    names, problems = named(**{fault: [5]})
    assert names == {2: 0, 3: 1, 4: 2}
    assert len(problems) == 1
    assert problems[0].startswith("node 5 cannot say its partition: ")
    assert said in problems[0]
