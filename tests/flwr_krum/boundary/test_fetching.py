"""Rounds whose replies are fetched object by object: the same bytes, and nobody holds them up."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.run import RunNotRunningException

import flwr_krum.server.strategy as fit
from flwr_krum.boundary import fetching
from flwr_krum.boundary import lane as lanes
from flwr_krum.boundary.arrivals import ArrivingGrid
from flwr_krum.boundary.messages import Limits, weighed
from flwr_krum.boundary.questions import Arrivals, Questions
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.boundary.spill import AT_A_TIME, Spill
from flwr_krum.journal import read_journal
from flwr_krum.report import RoundReport
from flwr_krum.rules import RULES, Krum, MultiKrum
from flwr_krum.serverapp.strategy import RobustAggregation
from tests.flwr_krum.boundary.grids import ScriptedGrid
from tests.flwr_krum.boundary.superlink import SuperLinkGrid
from tests.flwr_krum.boundary.wire import WiredGrid
from tests.flwr_krum.npy_bytes import npy
from tests.flwr_krum.test_every_rule import build

N = 11
NODES = tuple(range(10, 10 + N))
FROZEN = np.arange(20_000, dtype=np.float32)
MODEL = {"frozen": Array(FROZEN), "own": Array(np.zeros(300, np.float32))}
DEADLINE = 3.0


def arrays_of(node, dtype=np.float32):
    own = np.random.default_rng(node).standard_normal(300).astype(dtype)
    return {"frozen": npy(FROZEN), "own": npy(own)}


def honest(node):
    """Return what a node sends: most in float32, one in float16, one in float64, one NaN."""
    dtypes = {NODES[1]: np.float16, NODES[2]: np.float64}
    sent = arrays_of(node, dtypes.get(node, np.float32))
    if node == NODES[3]:
        sent["own"] = npy(np.full(300, np.nan, np.float32))
    return sent


def reply_to(message, sends=honest):
    sent = sends(message.metadata.dst_node_id)
    arrays = ArrayRecord({k: Array("", (), "numpy.ndarray", data) for k, data in sent.items()})
    content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


def play(rule=None, grid=None, rounds=1, timeout=20.0, **options):
    """Run rounds; return the strategy, the bytes of its model, and the grid."""
    grid = grid or WiredGrid(NODES, reply_to)
    strategy = RobustAggregation(rule or MultiKrum(2), fraction_evaluate=0.0, **options)
    result = strategy.start(grid, ArrayRecord(MODEL), num_rounds=rounds, timeout=timeout)
    return strategy, {key: array.data for key, array in result.arrays.items()}, grid


def own_object(reply):
    """Return the objects of a reply's own layer, so that they are never uploaded."""
    array = reply.content["arrays"]["own"]
    return [array.object_id, *array.children]


def said(report):
    """Return all that a report says but how long things took, and how much was fetched."""
    return repr(replace(report, seconds={}, arrived={}, time="", fetched_bytes=0, distinct_bytes=0))


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(lanes, "log", lambda level, text, *args: lines.append(text % args))
    return lines


# --- the same result ---


@pytest.mark.parametrize("name", RULES)
def test_every_rule_finds_the_same_bytes_and_says_the_same_of_the_round(name):
    rule = build(name, unit=20.0).seeded(3)
    options = {"root": lambda model: [np.copy(x) + 1 for x in model]}
    options = options if "root" in rule.server_rows else {}
    whole, expected, _ = play(rule, **options)
    by_object, found, grid = play(rule, lane=True, **options)
    assert grid.whole == 0
    assert whole.last_report.stepped
    assert found == expected
    assert said(by_object.last_report) == said(whole.last_report)
    assert [refused.client for refused in by_object.last_report.refused] == [NODES[3]]


@pytest.mark.parametrize(("memory", "filed"), [(0, N), (400_000, N - 2), (10**9, 0)])
def test_with_a_spill_replies_beyond_the_memory_are_filed_and_the_bytes_are_the_same(
    memory, filed, tmp_path, monkeypatch
):
    """Half of the memory is what the lane keeps for other replies: two of 80 kB fit into 200."""
    written, write = [], Spill._written

    def watched(spill, array, file):
        written.append(array.nbytes)
        return write(spill, array, file)

    monkeypatch.setattr(Spill, "_written", watched)
    strategy, found, grid = play(lane=True, memory=memory, spill=tmp_path, rounds=2)
    assert found == play(rounds=2)[1]
    assert grid.whole == 0
    assert len(strategy.last_report.received) == N - 1
    assert written.count(FROZEN.nbytes) == 2 * filed


def test_with_a_spill_few_replies_lie_half_fetched_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "PATIENCE", 1e6)  # as if those that drip had only begun
    begun, advance = set(), lanes.ChunkLane.advance

    def watched(lane, claim, seconds):
        begun.add(claim.message_id)
        return advance(lane, claim, seconds)

    monkeypatch.setattr(lanes.ChunkLane, "advance", watched)
    grid = WiredGrid(NODES, reply_to, dict.fromkeys(NODES, own_object))
    play(grid=grid, lane=True, timeout=1.0, memory=0, spill=tmp_path)
    assert len(begun) == AT_A_TIME


def test_a_report_says_what_was_fetched_and_that_shared_layers_were_fetched_once(tmp_path):
    path = tmp_path / "journal.jsonl"
    report = play(lane=True, journal=path)[0].last_report
    assert report.distinct_bytes == report.fetched_bytes
    assert FROZEN.nbytes < report.fetched_bytes < 2 * FROZEN.nbytes
    assert any(f"fetched {report.fetched_bytes} bytes" in line for line in report.lines())
    (read,) = read_journal(path)
    assert (read.fetched_bytes, read.distinct_bytes) == (report.fetched_bytes,) * 2
    older = report.to_json()
    del older["fetched_bytes"], older["distinct_bytes"]
    assert RoundReport.from_json(older) == report


def test_without_it_nothing_is_fetched_by_object_and_nothing_said_of_it(logged):
    strategy, _, grid = play()
    assert grid.whole > 0
    assert strategy.last_report.fetched_bytes == 0
    assert not any("fetched" in line for line in strategy.last_report.lines())
    assert logged == []


def test_error_replies_and_their_texts_come_through():
    def answer(message):
        if message.metadata.dst_node_id == NODES[0]:
            return Message(Error(2, "out of memory"), reply_to=message)
        return reply_to(message)

    report = play(grid=WiredGrid(NODES, answer), lane=True)[0].last_report
    assert report.failed == {NODES[0]: "out of memory"}


# --- hostile and broken nodes ---


@pytest.mark.parametrize("spilled", [False, True])
def test_nodes_that_drip_cost_the_others_nothing_and_the_round_ends_when_it_is_due(
    spilled, tmp_path
):
    grid = WiredGrid(NODES, reply_to, dict.fromkeys(NODES[:3:2], own_object))
    options = {"memory": 0, "spill": tmp_path} if spilled else {}
    begin = time.monotonic()
    report = play(grid=grid, timeout=DEADLINE, lane=True, **options)[0].last_report
    assert time.monotonic() - begin >= DEADLINE
    assert report.silent == NODES[:3:2]
    assert set(report.received) == set(NODES) - {*NODES[:4]} | {NODES[1]}


def test_what_a_round_left_unfinished_is_dropped_and_its_node_asked_again():
    grid = WiredGrid(NODES, reply_to, {NODES[0]: own_object})
    strategy, _, _ = play(grid=grid, timeout=DEADLINE, rounds=2, lane=True)
    assert [report.silent for report in strategy.reports] == [NODES[:1]] * 2
    assert grid.asked[NODES[0]] == 2
    wait_until(lambda: len(grid.wire.store) == 0)


def test_a_bomb_is_refused_by_name_before_it_is_unfolded(monkeypatch):
    def answer(message):
        reply = reply_to(message)
        if message.metadata.dst_node_id == NODES[0]:
            array = reply.content["arrays"]["own"]
            array.__dict__["_chunks"] = array.slice_array() * 3000
        return reply

    unfolded, inflate = [], Array.inflate

    def watched(content, children=None):
        array = inflate(content, children)
        unfolded.append(len(array.data))
        return array

    monkeypatch.setattr(Array, "inflate", watched)
    report = play(grid=WiredGrid(NODES, answer), lane=True)[0].last_report
    refused = {refused.client: refused.reason for refused in report.refused}
    assert "its arrays have at least" in refused[NODES[0]]
    assert max(unfolded) < 2 * FROZEN.nbytes
    assert set(report.received) == set(NODES) - {NODES[0], NODES[3]}


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("ways", [["lane"], ["memory"], ["lane", "memory"], []])
def test_beside_full_arrays_as_much_is_read_with_the_lane_as_with_a_spill(ways, over, tmp_path):
    """A MiB and 2 KiB for each array; without both ways nothing is counted."""
    model = {f"{k}": Array(np.zeros(300, np.float32)) for k in range(100)}
    content = RecordDict({"arrays": ArrayRecord(model), "own": ConfigRecord({"notes": ""})})
    rest = 2**20 + sum(2**11 + len(key) for key in model)
    spare = rest - weighed(content, Limits(beside=rest)).beside
    content["own"]["notes"] = "x" * (spare + over)
    full = sum(128 + len(key) + len(array.data) for key, array in model.items())

    def answer(message):
        return Message(content, reply_to=message)

    ours = {"lane": True} if "lane" in ways else {}
    ours |= {"memory": 0, "spill": tmp_path} if "memory" in ways else {}
    strategy = RobustAggregation(MultiKrum(2), fraction_evaluate=0.0, max_reply_bytes=full, **ours)
    grid = WiredGrid(NODES, answer)
    strategy.start(grid, ArrayRecord(model), num_rounds=1, timeout=20.0)
    report = strategy.last_report
    if ways and over:
        assert {r.reason for r in report.refused} == {
            f"more than {rest} bytes of metrics, configurations and short arrays"
        }
    assert len(report.received) == (0 if ways and over else N)


def test_a_reply_that_the_superlink_has_lost_is_a_failure_of_its_node_and_no_offence():
    grid = WiredGrid(NODES, reply_to, {NODES[0]: own_object})
    works = grid.wire.client.PullObject

    def losing(request):
        answer = works(request)
        answer.object_found = answer.object_available  # a push that did not end has expired
        return answer

    grid.wire.client.PullObject = losing
    report = play(grid=grid, lane=True)[0].last_report
    assert set(report.failed) == {NODES[0]}
    assert "gone before it was uploaded" in report.failed[NODES[0]]
    assert [refused.client for refused in report.refused] == [NODES[3]]


@pytest.mark.parametrize("call", ["PullMessages", "PullObject", "ConfirmMessageReceived"])
def test_calls_that_fail_now_and_then_lose_no_reply(call):
    grid = WiredGrid(NODES, reply_to)
    works, calls = getattr(grid.wire.client, call), []

    def flaky(request):
        calls.append(request)
        if len(calls) % 2:
            raise ConnectionError("down")
        return works(request)

    setattr(grid.wire.client, call, flaky)
    report = play(grid=grid, lane=True)[0].last_report
    assert set(report.received) == set(NODES) - {NODES[3]}
    assert not report.failed


@pytest.mark.parametrize("depth", [100, 2000])
def test_a_node_whose_announcement_cannot_be_read_is_named_at_once_and_hides_no_other(depth):
    """Flower's client cannot read the one, and its SuperLink the other."""

    def answer(grid, place, message):
        reply = reply_to(message, lambda _: arrays_of(place))
        tree = None
        if place == 4:
            tree = ObjectTree(object_id=reply.object_id, children=[grid.nested(depth)])
        grid.upload(reply, grid.announce(reply, tree))

    grid = SuperLinkGrid(N, answer)
    begin = time.monotonic()
    report = play(grid=grid, lane=True, timeout=600.0)[0].last_report
    assert time.monotonic() - begin < 300.0  # it would be silent until the end
    liar = grid.nodes[4]
    assert set(report.failed) == {liar}
    assert re.search("announces it cannot be read|Message Unavailable", report.failed[liar])
    assert not report.refused
    assert set(report.received) == set(grid.nodes) - {liar}


@pytest.mark.parametrize("shaped", ["another child", "a chain", "a bush"])
def test_a_liar_who_announces_the_objects_of_others_costs_them_nothing(shaped):
    """The SuperLink has the children of an object from whoever announced it first."""

    def answer(grid, place, message):
        reply = reply_to(message, lambda _: arrays_of(place))
        tree = None
        if place == 0:
            frozen = reply.content["arrays"]["frozen"].object_id
            children = {
                "another child": [ObjectTree(object_id="e" * 64)],
                "a chain": [grid.nested(8)],
                "a bush": [ObjectTree(object_id=f"{k:064x}") for k in range(2000)],
            }[shaped]
            child = ObjectTree(object_id=frozen, children=children)
            tree = ObjectTree(object_id=reply.object_id, children=[child])
        grid.upload(reply, grid.announce(reply, tree))

    grid = SuperLinkGrid(N, answer)
    report = play(grid=grid, lane=True, timeout=60.0)[0].last_report
    assert set(report.received) >= set(grid.nodes[1:])
    assert not report.refused


def test_the_superlink_takes_no_more_of_what_was_dropped_so_that_its_node_is_free():
    unsent = []

    def answer(grid, place, message):
        reply = reply_to(message, lambda _: arrays_of(place))
        missing = grid.announce(reply)
        if place == 0 and not unsent:
            unsent.append((reply, own_object(reply)))
            missing = set(missing) - set(own_object(reply))
        grid.upload(reply, missing)

    grid = SuperLinkGrid(N, answer)
    strategy, _, _ = play(grid=grid, lane=True, timeout=DEADLINE, rounds=2)
    first, second = strategy.reports
    assert first.silent == (grid.nodes[0],)
    assert second.silent == ()
    wait_until(lambda: len(grid.state.object_store) == 0)
    assert not any(grid.upload(*unsent[0]).values())


def test_a_run_that_is_stopped_ends_the_exchange():
    grid = WiredGrid(NODES, reply_to)

    def stopped(request):
        raise RunNotRunningException

    grid.wire.client.PullObject = stopped
    with pytest.raises(RunNotRunningException):
        play(grid=grid, lane=True)


def test_where_the_superlink_is_gone_the_error_is_raised_as_without_a_lane():
    class Gone(WiredGrid):
        is_down = False

        def get_nodes(self):
            if self.is_down:
                raise ConnectionError("gone")
            return super().get_nodes()

    grid = Gone(NODES, reply_to)

    def down(request):
        grid.is_down = True
        raise ConnectionError("gone")

    grid.wire.client.PullMessages = down
    with pytest.raises(ConnectionError, match="gone"):
        play(grid=grid, lane=True)


# --- quorums ---


def test_the_late_are_dropped_unread_and_asked_again():
    grid = WiredGrid(NODES, reply_to, {NODES[0]: own_object})
    quorum = Quorum(N - 2, grace=0.0, wait=0.5)
    strategy, _, _ = play(grid=grid, lane=True, quorum=quorum, rounds=3)
    assert [NODES[0] in report.late for report in strategy.reports] == [True] * 3
    assert grid.whole == 0
    wait_until(lambda: len(grid.wire.store) == 0)


def test_a_reply_that_comes_after_its_exchange_is_dropped_in_the_next_without_its_data():
    kept = []

    def answer(message):
        if message.metadata.dst_node_id == NODES[0] and not kept:
            kept.append(reply_to(message))
            return None
        return reply_to(message)

    inner = WiredGrid(NODES, answer)
    grid = ArrivingGrid(inner, lane=True)
    ask = lambda: grid.send_and_receive(  # noqa: E731
        Questions([Message(RecordDict(), node, "train") for node in NODES],
        Arrivals(Quorum(N - 1, 0.0, 0.2))), timeout=60.0)  # fmt: skip
    assert len(ask()) == N - 1
    inner.wire.announce(kept[0])
    pulled = len(inner.wire.pulled)
    wait_until(lambda: not grid._debts.debtors(Event(), 5.0, ()))
    assert len(inner.wire.pulled) == pulled
    assert len(ask()) == N


def test_nobody_is_late_because_the_server_was_busy_with_others():
    grid = WiredGrid(NODES, reply_to)
    works = grid.wire.client.PullObject

    def slow(request):
        time.sleep(0.02)
        return works(request)

    grid.wire.client.PullObject = slow
    report = play(grid=grid, lane=True, quorum=Quorum(7, grace=0.5, wait=0.0))[0].last_report
    assert report.late == ()


# --- where there is none ---


def test_on_another_grid_replies_are_fetched_whole_and_the_log_says_so_once(logged):
    grid = ScriptedGrid(NODES, reply_to)
    try:
        strategy, found, _ = play(grid=grid, lane=True, rounds=2)
    finally:
        grid.ended.set()
    assert found == play(rounds=2)[1]
    assert strategy.last_report.fetched_bytes == 0
    assert logged == [
        "lane: replies are fetched whole, ScriptedGrid has no client of the SuperLink's"
    ]


def test_with_another_flower_replies_are_fetched_whole(logged, monkeypatch):
    monkeypatch.setattr(lanes, "TESTED", ("1.0.0",))
    _, found, grid = play(lane=True)
    assert grid.whole > 0
    assert found == play()[1]
    assert len(logged) == 1


@pytest.mark.parametrize("lane", [1, "yes", None])
def test_it_is_on_or_off(lane):
    with pytest.raises(TypeError, match="expected True or False"):
        RobustAggregation(Krum(1), lane=lane)


def test_the_other_api_says_that_it_has_none():
    with pytest.raises(ValueError, match=r"lane is True, .* legal is False"):
        fit.RobustAggregation(Krum(1), lane=True)


def wait_until(condition):
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
