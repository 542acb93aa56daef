"""Nodes get names that are their own in every run."""

import pytest
from flwr.app import Message, MetricRecord, RecordDict

from flwr_krum.boundary.arrivals import ArrivingGrid
from flwr_krum.boundary.nodes import name_nodes
from tests.flwr_krum.boundary.grids import ScriptedGrid, blocking, gone, raising, silent


def saying(message, partition):
    claim = partition
    if isinstance(partition, int):
        claim = MetricRecord({"partition-id": partition})
    content = {} if claim is None else {"node": claim}
    return Message(RecordDict(content), reply_to=message)


def named(partitions=None, registered=None, scripts=None):
    """Name four nodes, 2 to 5, that claim the partitions 0 to 3 or what is in `partitions`."""

    def answer(message):
        own = message.metadata.dst_node_id - 2
        return saying(message, (partitions or {}).get(own, own))

    grid = ScriptedGrid(range(2, 6), answer, scripts, registered)
    return name_nodes(ArrivingGrid(grid, 0.3))


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
    ("script", "said"),
    [
        (silent, "no answer in time"),
        (blocking(1.0), "no answer in time"),
        (raising(KeyError("no such object")), "unreadable reply: KeyError: 'no such object'"),
        (gone, "Node Unavailable"),
    ],
)
def test_a_node_that_fails_to_answer_has_no_name_and_ends_nothing(script, said):
    names, problems = named(scripts={5: script})
    assert names == {2: 0, 3: 1, 4: 2}
    assert problems == [f"node 5 cannot say its partition: {said}"]
