"""The chunk lane between Flower's own grid and object store; only the wire is a fake."""

from __future__ import annotations

import json
from types import SimpleNamespace

import flwr
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from flwr_krum.boundary import lane as module
from flwr_krum.boundary.lane import ChunkLane, Claim, LostReplyError, OddReplyError, announced
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
    lane.begin(400, LARGE, LARGE, LARGE)
    return lane


def answer(node, arrays):
    asked = Message(RecordDict(), node, "train")
    asked.metadata.__dict__["_message_id"] = f"asked-{node}"
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 3})}
    return Message(RecordDict(content), reply_to=asked)


def all_of(lane, n):
    claims = [lane.claim(f"asked-{node}") for node in range(1, n + 1)]
    return [lane.advance(claim) for claim in claims]


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
    lane.begin(400, LARGE, LARGE, LARGE)
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
    lane.begin(400, LARGE, LARGE, LARGE, model=ids)
    for node, arrays in enumerate([first, second], start=1):
        wire.announce(answer(node, arrays))
        lane.advance(lane.claim(f"asked-{node}"))
    assert lane.fetched_bytes <= 1.01 * lane.distinct_bytes


def test_without_room_nothing_is_kept_and_the_bytes_are_the_same(lane, wire):
    sent = [answer(node, arrays) for node, arrays in enumerate(models(3), start=1)]
    for reply in sent:
        wire.announce(reply)
    lane.begin(400, LARGE, LARGE, 0)
    assert [data_of(r) for r in all_of(lane, 3)] == [data_of(r) for r in sent]
    assert not lane._shared
    assert lane.fetched_bytes > 2 * lane.distinct_bytes


def test_a_node_that_drips_holds_nothing_up(lane, wire):
    (arrays,) = models(1)
    reply = answer(1, arrays)
    slow = arrays["own"].object_id
    wire.announce(reply, without=[slow])
    claim = lane.claim("asked-1")
    assert lane.advance(claim) is None
    before = list(wire.pulled)
    assert lane.advance(claim) is None
    assert wire.pulled == before
    wire.store.put(slow, arrays["own"].deflate())
    assert data_of(lane.advance(claim)) == data_of(reply)


def test_after_a_failed_call_a_reply_is_gone_on_with(lane, wire):
    reply = wire.announce(answer(1, models(1)[0]))
    claim = lane.claim("asked-1")
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


def test_a_reply_whose_announcement_cannot_be_parsed_is_lost_and_nobodys_offence(lane):
    """Others can have shaped it, and the SuperLink has let go of it."""

    def unparsed(request):
        raise ValueError("Invalid protobuf response payload")

    confirmed = []
    lane._client.PullMessages = unparsed
    lane._client.ConfirmMessageReceived = confirmed.append
    with pytest.raises(LostReplyError, match="cannot be read: Invalid protobuf"):
        lane.advance(lane.claim("asked-1"))
    assert not confirmed  # nobody knows its name


def test_a_reply_that_comes_with_another_is_not_taken_for_it(lane, wire):
    first, second = (wire.announce(answer(k, arrays)) for k, arrays in enumerate(models(2), 1))
    pull = lane._client.PullMessages
    lane._client.PullMessages = lambda request: pull(
        PullAppMessagesRequest(message_ids=["asked-2", "asked-1"])
    )
    claim = lane.claim("asked-1")
    assert claim.message_id == first.object_id
    assert wire.store.get(second.object_id) is None
    assert data_of(lane.advance(claim)) == data_of(first)


@pytest.mark.parametrize("there", [True, False])
def test_what_somebody_else_put_into_a_list_harms_no_reply_that_is_on_its_way(lane, wire, there):
    """An array that would unfold beyond the limit, there or gone again."""
    reply = answer(1, models(1)[0])
    wire.announce(reply, without=[reply.object_id])
    chunk = b"ArrayChunk  100000\x00" + bytes(100_000)
    bomb = [chunk, array_object([chunk], 1000)]
    for content in bomb if there else ():
        wire.store.preregister(1, tree_of(get_object_id(content)))
        wire.store.put(get_object_id(content), content)
    own = wire.store.get_object_tree(reply.object_id)
    children = [*own.children, *(tree_of(get_object_id(content)) for content in bomb)]
    wire.store.get_object_tree = lambda id_: ObjectTree(object_id=id_, children=children)
    lane.begin(400, 3_000_000, LARGE, LARGE)
    claim = lane.claim("asked-1")
    assert lane.advance(claim) is None
    wire.store.put(reply.object_id, reply.deflate())
    assert data_of(lane.advance(claim)) == data_of(reply)


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
    with pytest.raises(OddReplyError, match="it cannot be read"):
        all_of(lane, 1)
    assert len(wire.store) == 0


def test_the_superlink_keeps_nothing_of_a_reply_that_was_fetched_or_refused(lane, wire):
    for node, arrays in enumerate(models(2), start=1):
        wire.announce(answer(node, arrays))
    first, second = lane.claim("asked-1"), lane.claim("asked-2")
    lane.advance(first)
    lane._most = 10
    with pytest.raises(OddReplyError, match=r"its arrays have at least [0-9]+ bytes, at most 10 "):
        lane.advance(second)
    assert len(wire.store) == 0
    assert not lane._shared


def test_a_refused_reply_takes_nothing_from_the_others(lane, wire):
    sent = [answer(node, arrays) for node, arrays in enumerate(models(3), start=1)]
    sent[1].content["arrays"] = ArrayRecord({f"{k}": Array(np.zeros(k)) for k in range(400)})
    for reply in sent:
        wire.announce(reply)
    claims = [lane.claim(f"asked-{node}") for node in (1, 2, 3)]
    lane.advance(claims[0])
    with pytest.raises(OddReplyError, match="more than 400 objects"):
        lane.advance(claims[1])
    assert data_of(lane.advance(claims[2])) == data_of(sent[2])


@pytest.mark.parametrize("announced", ["nothing", "too much", "something else", "what is large"])
def test_what_a_reply_consists_of_is_what_its_objects_say_whatever_was_announced(
    lane, wire, announced
):
    (arrays,) = models(1)
    reply = wire.announce(answer(1, arrays))
    large = Array(np.zeros(3_000_000, np.uint8))
    (chunk,) = get_all_nested_objects(large).keys() - {large.object_id}
    wire.store.preregister(1, ObjectTree(object_id=chunk))
    wire.store.put(chunk, get_all_nested_objects(large)[chunk].deflate())
    tree = {
        "nothing": ObjectTree(object_id=reply.object_id),
        "too much": ObjectTree(object_id="m", children=[ObjectTree(object_id="x")] * 500),
        "something else": ObjectTree(object_id=reply.object_id, children=[tree_of("e" * 64)]),
        "what is large": ObjectTree(object_id=reply.object_id, children=[tree_of(chunk)]),
    }[announced]
    wire.store.get_object_tree = lambda id_: tree
    lane.begin(400, 2_500_000, LARGE, LARGE)
    assert data_of(*all_of(lane, 1)) == data_of(reply)
    assert chunk not in wire.pulled
    assert not lane._shared


def test_while_a_message_is_on_its_way_what_was_announced_is_fetched_and_nothing_twice(lane, wire):
    (arrays,) = models(1)
    reply = answer(1, arrays)
    wire.announce(reply, without=[reply.object_id])
    claim = lane.claim("asked-1")
    assert lane.advance(claim) is None
    assert len(wire.pulled) == len(get_all_nested_objects(reply)) - 1
    wire.store.put(reply.object_id, reply.deflate())
    assert data_of(lane.advance(claim)) == data_of(reply)
    assert len(wire.pulled) == len(set(wire.pulled)) == len(get_all_nested_objects(reply))


def test_a_list_that_is_longer_than_a_reply_may_be_is_not_gone_by_and_refuses_nobody(lane, wire):
    """Somebody else put a large object into it, which is there; the message is not yet."""
    (arrays,) = models(1)
    reply = answer(1, arrays)
    wire.announce(reply, without=[reply.object_id])
    large = b"ArrayChunk  3000000\x00" + bytes(3_000_000)
    wire.store.preregister(1, tree_of(get_object_id(large)))
    wire.store.put(get_object_id(large), large)
    own = wire.store.get_object_tree(reply.object_id)
    listed = ObjectTree(
        object_id=reply.object_id, children=[*own.children, tree_of(get_object_id(large))]
    )
    wire.store.get_object_tree = lambda id_: listed
    lane.begin(400, 2_500_000, LARGE, LARGE)
    claim = lane.claim("asked-1")
    assert lane.advance(claim) is None
    assert not claim.contents
    wire.store.put(reply.object_id, reply.deflate())
    assert data_of(lane.advance(claim)) == data_of(reply)


def tree_of(id_):
    return ObjectTree(object_id=id_)


def test_no_more_of_a_reply_is_held_than_is_read_and_an_object(lane, wire, monkeypatch):
    held, add = [], Claim.add

    def watched(claim, object_id, content):
        add(claim, object_id, content)
        held.append(sum(map(len, claim.contents.values())))

    monkeypatch.setattr(Claim, "add", watched)
    arrays = {f"{k}": Array(np.full(50_000, k, np.uint8)) for k in range(30)}
    wire.announce(answer(1, arrays))
    lane.begin(400, 500_000, 100_000, LARGE)
    with pytest.raises(OddReplyError, match="its arrays have at least"):
        all_of(lane, 1)
    assert len(held) > 9
    assert max(held) <= 600_000


def test_what_is_no_array_has_a_limit_of_its_own(lane, wire):
    reply = answer(1, models(1)[0])
    reply.content["notes"] = ConfigRecord({"text": "x" * 100_000})
    wire.announce(reply)
    lane.begin(400, LARGE, 90_000, LARGE)
    with pytest.raises(OddReplyError, match=r"bytes of metrics, .* at most 90000 are read"):
        all_of(lane, 1)


def test_objects_that_are_nested_too_deep_are_refused_with_the_limit(lane, wire):
    """An array in an array in a record: six objects from the message to the chunk."""
    reply = answer(1, models(1)[0])
    wire.announce(reply)
    deep = [b"ArrayChunk  1\x001"]
    for _ in range(4):
        deep.append(b"Array " + get_object_id(deep[-1]).encode() + b" 0\x00")
    deep.append(b"Message " + get_object_id(deep[-1]).encode() + b" 0\x00")
    replaced(wire, reply, deep)
    with pytest.raises(OddReplyError, match="nested 6 deep, expected 1 to 5"):
        all_of(lane, 1)


def test_an_array_of_arrays_is_refused_before_it_is_unfolded(lane, wire, monkeypatch):
    """The inner one may be as large as a model, and the outer one name it any number of times."""
    reply = answer(1, models(1)[0])
    wire.announce(reply)
    chunk = b"ArrayChunk  1000\x00" + bytes(1000)
    inner = array_object([chunk], 500)
    outer = array_object([inner], 500)
    records = outer  # flower would find out that it is no record after it is unfolded
    content = b"RecordDict " + get_object_id(records).encode() + b" 2\x00{}"
    message = b"Message " + get_object_id(content).encode() + b" 0\x00"
    replaced(wire, reply, [chunk, inner, outer, content, message])
    monkeypatch.setattr(Array, "inflate", None)
    lane.begin(400, 600_000, LARGE, LARGE)
    with pytest.raises(OddReplyError, match="an array of it names other objects than chunks"):
        all_of(lane, 1)


def array_object(chunks, times):
    """Return the object of an array that names its chunks many times."""
    body = {"dtype": "", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": [0] * times}
    text = json.dumps(body).encode()
    names = ",".join(map(get_object_id, chunks))
    return f"Array {names} {len(text)}\0".encode() + text


def replaced(wire, reply, objects):
    """Have a reply consist of these objects, the last of which is its message."""
    tree = None
    for content in objects:
        tree = ObjectTree(object_id=get_object_id(content), children=[tree] if tree else [])
    wire.store.preregister(1, tree)
    for content in objects:
        wire.store.put(get_object_id(content), content)
    reply.metadata.__dict__["_message_id"] = tree.object_id


def test_a_tree_that_no_reply_has_is_no_guess():
    tree = ObjectTree(object_id="6")
    for name in "54321":
        tree = ObjectTree(object_id=name, children=[tree])
    assert announced(tree, 100) == []
    assert announced(tree.children[0], 100) == list("65432")
    assert announced(tree.children[0], 4) == []


def test_an_object_in_two_places_is_listed_once_and_children_come_first():
    both = ObjectTree(object_id="c")
    tree = ObjectTree(
        object_id="m",
        children=[
            ObjectTree(object_id="a", children=[both]),
            ObjectTree(object_id="b", children=[both]),
        ],
    )
    order = announced(tree, 5)
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
    lane.begin(400, 1_000_000, LARGE, LARGE)
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
