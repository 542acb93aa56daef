import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from simulations.engines.inprocess import FIRST_NODE_ID, InProcessGrid


def content():
    return RecordDict(
        {"arrays": ArrayRecord({"w": Array(np.arange(3.0))}), "config": ConfigRecord({"a": 1})}
    )


def app_of(train):
    app = ClientApp()
    app.train()(train)
    return app


@pytest.fixture
def ask():
    """Send one shared content to every node and return the replies in the nodes' order."""

    def ask(train, num_nodes=3, shared=None):
        grid = InProcessGrid(app_of(train), num_nodes)
        shared = shared or content()
        messages = [Message(shared, node, MessageType.TRAIN) for node in grid.get_node_ids()]
        return list(grid.send_and_receive(messages))

    return ask


def test_every_node_answers_with_its_own_partition(ask):
    def train(message, context):
        config = ConfigRecord(dict(context.node_config))
        return Message(RecordDict({"node": config}), reply_to=message)

    replies = ask(train, num_nodes=4)
    assert [dict(reply.content["node"]) for reply in replies] == [
        {"partition-id": i, "num-partitions": 4} for i in range(4)
    ]
    assert [reply.metadata.src_node_id for reply in replies] == [
        i + FIRST_NODE_ID for i in range(4)
    ]


def test_a_client_cannot_change_what_another_receives(ask):
    def train(message, context):
        seen = message.content["arrays"]["w"].numpy()
        message.content["arrays"]["w"].data = Array(np.full(3, -1.0)).data
        message.content["config"]["a"] = 99
        return Message(RecordDict({"seen": ArrayRecord([seen])}), reply_to=message)

    shared = content()
    for reply in ask(train, shared=shared):
        np.testing.assert_array_equal(reply.content["seen"].to_numpy_ndarrays()[0], np.arange(3.0))
    np.testing.assert_array_equal(shared["arrays"]["w"].numpy(), np.arange(3.0))
    assert shared["config"]["a"] == 1


def test_a_client_that_breaks_answers_with_an_error_and_the_others_go_on(ask):
    def train(message, context):
        if context.node_config["partition-id"] == 1:
            raise KeyError("broken")
        return Message(message.content, reply_to=message)

    replies = ask(train)
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert "KeyError: 'broken'" in replies[1].error.reason


def test_a_nodes_context_keeps_its_state_between_rounds(ask):
    counts = []

    def train(message, context):
        seen = context.state.get("count", ConfigRecord({"n": 0}))["n"] + 1
        context.state["count"] = ConfigRecord({"n": seen})
        counts.append(seen)
        return Message(message.content, reply_to=message)

    grid = InProcessGrid(app_of(train), 1)
    for _ in range(3):
        grid.send_and_receive([Message(content(), FIRST_NODE_ID, MessageType.TRAIN)])
    assert counts == [1, 2, 3]


def test_clients_asked_from_many_threads_answer_one_at_a_time():
    # Side by side they would parse array headers, which Python 3.11 does not do safely.
    at_work, most = [], []

    def train(message, context):
        at_work.append(message)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.pop()
        return Message(message.content, reply_to=message)

    grid = InProcessGrid(app_of(train), 5)
    messages = [Message(content(), node, MessageType.TRAIN) for node in grid.get_node_ids()]
    with ThreadPoolExecutor(5) as pool:
        replies = [*pool.map(lambda message: list(grid.send_and_receive([message])), messages)]
    assert not any(reply.has_error() for (reply,) in replies)
    assert most == [1] * 5


def test_a_reply_is_handed_out_once():
    def train(message, context):
        return Message(message.content, reply_to=message)

    grid = InProcessGrid(app_of(train), 1)
    ids = list(grid.push_messages([Message(content(), FIRST_NODE_ID, MessageType.TRAIN)]))
    assert len(list(grid.pull_messages(ids))) == 1
    assert list(grid.pull_messages(ids)) == []
