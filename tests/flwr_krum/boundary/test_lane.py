"""The chunk lane between Flower's own grid and object store; only the wire is a fake."""

from __future__ import annotations

from types import SimpleNamespace

import flwr
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from flwr_krum.boundary import lane as module
from flwr_krum.boundary.lane import ChunkLane, OddReplyError, bounded
from tests.flwr_krum.boundary.wire import Wire

LARGE = 10**9


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def grid(wire):
    grid = HttpGrid(token="t")
    grid.set_run(Run.create_empty(1))
    grid._client = wire.client
    return grid


@pytest.fixture
def lane(grid):
    lane = ChunkLane.open(grid)
    lane.begin(400, LARGE, LARGE)
    return lane


def answer(node, arrays):
    asked = Message(RecordDict(), node, "train")
    asked.metadata.__dict__["_message_id"] = f"asked-{node}"
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 3})}
    return Message(RecordDict(content), reply_to=asked)


def all_of(lane, n):
    claims = lane.claims([f"asked-{node}" for node in range(1, n + 1)])
    return [lane.advance(claims[f"asked-{node}"]) for node in range(1, n + 1)]


def models(n, frozen=500_000, own=500):
    shared = Array(np.arange(frozen, dtype=np.float32))
    noise = np.random.default_rng(0)
    return [
        {"frozen": shared, "own": Array(noise.normal(size=own).astype(np.float32))}
        for _ in range(n)
    ]


def data_of(message):
    return {key: array.data for key, array in message.content["arrays"].items()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_a_reply_has_the_bytes_that_flowers_own_way_gives(grid, wire, dtype):
    values = np.array([[np.nan, np.inf, -0.0], [1, 2, 3]])
    with np.errstate(invalid="ignore"):
        arrays = {"w": Array(values.astype(dtype)), "mixed": Array(np.zeros(3, np.float32))}
    reply = answer(1, arrays)
    wire.announce(reply)
    (theirs,) = grid.pull_messages(["asked-1"])
    wire.announce(reply)
    lane = ChunkLane.open(grid)
    lane.begin(400, LARGE, LARGE)
    (ours,) = all_of(lane, 1)
    assert ours.content == theirs.content
    assert data_of(ours) == data_of(theirs)
    assert vars(ours.metadata) == vars(theirs.metadata)


def test_what_replies_share_is_fetched_once(lane, wire):
    for node, arrays in enumerate(models(10), start=1):
        wire.announce(answer(node, arrays))
    replies = all_of(lane, 10)
    assert [data_of(r)["frozen"] for r in replies] == [data_of(replies[0])["frozen"]] * 10
    assert len(wire.pulled) == len(set(wire.pulled))
    assert lane.fetched_bytes == lane.distinct_bytes < 2 * 500_000 * 4
    assert not lane._shared  # nothing is kept for replies that are all there


def test_what_the_model_has_is_fetched_once_though_replies_come_one_after_the_other(lane, wire):
    first, second = models(2)
    ids = [id_ for chunk in [first["frozen"]] for id_ in get_all_nested_objects(chunk)]
    lane.begin(400, LARGE, LARGE, model=ids)
    for node, arrays in enumerate([first, second], start=1):
        wire.announce(answer(node, arrays))
        lane.advance(lane.claims([f"asked-{node}"])[f"asked-{node}"])
    assert lane.fetched_bytes <= 1.01 * lane.distinct_bytes


def test_without_room_nothing_is_kept_and_the_bytes_are_the_same(lane, wire):
    sent = [answer(node, arrays) for node, arrays in enumerate(models(3), start=1)]
    for reply in sent:
        wire.announce(reply)
    lane.begin(400, LARGE, 0)
    assert [data_of(r) for r in all_of(lane, 3)] == [data_of(r) for r in sent]
    assert not lane._shared
    assert lane.fetched_bytes > 2 * lane.distinct_bytes


def test_a_node_that_drips_holds_nothing_up(lane, wire):
    (arrays,) = models(1)
    reply = answer(1, arrays)
    slow = arrays["own"].object_id
    wire.announce(reply, without=[slow])
    claim = lane.claims(["asked-1"])["asked-1"]
    assert lane.advance(claim) is None
    before = list(wire.pulled)
    assert lane.advance(claim) is None
    assert wire.pulled == before
    wire.store.put(slow, arrays["own"].deflate())
    assert data_of(lane.advance(claim)) == data_of(reply)


def test_after_a_failed_call_a_reply_is_gone_on_with(lane, wire):
    reply = wire.announce(answer(1, models(1)[0]))
    claim = lane.claims(["asked-1"])["asked-1"]
    works, calls = lane._client.PullObject, []

    def fails_once(request):
        calls.append(request.object_id)
        if len(calls) == 3:
            raise ConnectionError("down")
        return works(request)

    lane._client.PullObject = fails_once
    with pytest.raises(ConnectionError):
        lane.advance(claim)
    assert data_of(lane.advance(claim)) == data_of(reply)
    assert len(wire.pulled) == len(set(wire.pulled))


def test_where_the_superlink_cannot_be_told_of_a_reply_it_is_not_lost(lane, wire):
    reply = wire.announce(answer(1, models(1)[0]))

    def down(request):
        raise ConnectionError("down")

    lane._client.ConfirmMessageReceived = down
    assert data_of(*all_of(lane, 1)) == data_of(reply)


def test_content_that_is_no_object_refuses_the_reply(lane, wire):
    arrays = models(1)[0]
    wire.store.verify = False
    wire.announce(answer(1, arrays), without=[arrays["own"].object_id])
    wire.store.put(arrays["own"].object_id, b"Array  3\x00{[}")
    with pytest.raises(OddReplyError, match="other children than were announced"):
        all_of(lane, 1)
    assert len(wire.store) == 0


def test_the_superlink_keeps_nothing_of_a_reply_that_was_fetched_or_refused(lane, wire):
    for node, arrays in enumerate(models(2), start=1):
        wire.announce(answer(node, arrays))
    claims = lane.claims(["asked-1", "asked-2"])
    lane.advance(claims["asked-1"])
    lane._most = 10
    with pytest.raises(OddReplyError, match=r"it has at least [0-9]+ bytes, at most 10 are"):
        lane.advance(claims["asked-2"])
    assert len(wire.store) == 0
    assert not lane._shared


def test_a_refused_reply_takes_nothing_from_the_others(lane, wire):
    sent = [answer(node, arrays) for node, arrays in enumerate(models(3), start=1)]
    for reply in sent:
        wire.announce(reply)
    odd = wire.store.get_object_tree
    liar = sent[1].object_id

    def many(id_):
        tree = odd(id_)
        tree.children.extend([ObjectTree(object_id="x")] * (400 if id_ == liar else 0))
        return tree

    wire.store.get_object_tree = many
    claims = lane.claims(["asked-1", "asked-2", "asked-3"])
    lane.advance(claims["asked-1"])
    with pytest.raises(OddReplyError, match="more than 400 objects"):
        lane.advance(claims["asked-2"])
    assert data_of(lane.advance(claims["asked-3"])) == data_of(sent[2])


def test_a_tree_that_is_too_deep_is_refused_with_the_limit():
    tree = ObjectTree(object_id="6")
    for name in "54321":
        tree = ObjectTree(object_id=name, children=[tree])
    with pytest.raises(OddReplyError, match="nested 6 deep, expected 1 to 5"):
        bounded(tree, 100)


def test_an_object_in_two_places_is_listed_once_and_children_come_first():
    both = ObjectTree(object_id="c")
    tree = ObjectTree(
        object_id="m",
        children=[
            ObjectTree(object_id="a", children=[both]),
            ObjectTree(object_id="b", children=[both]),
        ],
    )
    order = list(bounded(tree, 5))
    assert sorted(order) == ["a", "b", "c", "m"]
    assert order.index("c") < min(order.index("a"), order.index("b"))
    assert order[-1] == "m"


def test_one_chunk_that_an_array_names_many_times_is_refused_before_it_is_unfolded(
    lane, wire, monkeypatch
):
    slices = Array.slice_array
    monkeypatch.setattr(Array, "slice_array", lambda array: list(slices(array)) * 50)
    reply = answer(1, {"w": Array(np.zeros(25_000, np.float32))})
    wire.announce(reply)
    lane.begin(400, 1_000_000, LARGE)
    with pytest.raises(OddReplyError, match=r"its arrays have .* at most 1000000 are read"):
        all_of(lane, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda grid, patch: patch.setattr(module, "TESTED", ("0.1",)), "tested was 0.1"),
        (lambda grid, patch: setattr(grid, "_client", SimpleNamespace()), "has no PullMessages"),
        (lambda grid, patch: patch.setattr(module, "_comes_back", lambda: False), "as it was"),
    ],
)
def test_it_says_why_there_is_no_lane(grid, monkeypatch, change, reason):
    said = []
    monkeypatch.setattr(module, "log", lambda level, text, *args: said.append(text % args))
    change(grid, monkeypatch)
    assert ChunkLane.open(grid) is None
    assert len(said) == 1
    assert reason in said[0]


def test_another_grid_has_no_lane(wire):
    assert ChunkLane.open(SimpleNamespace(_runtime_client=wire.client)) is None


def test_the_installed_version_is_one_that_was_tested():
    assert flwr.__version__ in module.TESTED
