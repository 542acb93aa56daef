"""Exchanges with nodes end when they are due, whatever the nodes do."""

from __future__ import annotations

import logging
import threading
import time
from threading import Timer
from unittest.mock import Mock

import pytest
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import RunNotRunningException

from flwr_krum.boundary import arrivals, crew
from flwr_krum.boundary.arrivals import HELD, TTL_MARGIN, ArrivingGrid, PromptGrid, arriving
from flwr_krum.boundary.questions import Arrivals, Questions
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.boundary.spill import Spill
from tests.flwr_krum.boundary.grids import (
    ScriptedGrid,
    after,
    blocking,
    gone,
    once,
    raising,
    silent,
)

NODES = range(10, 17)


@pytest.fixture
def scripted():
    grids = []

    def build(scripts=None, nodes=NODES, **options):
        grids.append(ScriptedGrid(nodes, scripts=scripts, **options))
        return grids[-1]

    yield build
    for grid in grids:
        grid.ended.set()


def ask(grid, nodes=NODES, timeout=None):
    """Ask the nodes; return their replies by node, and the seconds that it took."""
    begin = time.monotonic()
    messages = [Message(RecordDict(), node, "query") for node in nodes]
    replies = grid.send_and_receive(messages, timeout=timeout)
    assert len({reply.metadata.src_node_id for reply in replies}) == len(replies)
    took = time.monotonic() - begin
    return {reply.metadata.src_node_id: reply for reply in replies}, took


def reasons(replies):
    return {n: reply.error.reason for n, reply in replies.items() if reply.has_error()}


# --- deadlines ---


def test_no_time_is_lost_when_all_have_answered(scripted):
    replies, took = ask(ArrivingGrid(scripted()), timeout=60.0)
    assert list(replies) == list(NODES)
    assert not reasons(replies)
    assert took < 20.0


@pytest.mark.parametrize("drippers", [1, 3, 6])
def test_nodes_that_drip_hold_back_nobody_and_the_round_ends_when_it_is_due(scripted, drippers):
    hostile = list(NODES)[:drippers]
    inner = scripted(
        dict.fromkeys(hostile, blocking(30.0)) | dict.fromkeys(list(NODES)[6:], after(0.4))
    )
    replies, took = ask(ArrivingGrid(inner), timeout=0.7)
    assert 0.7 <= took < 10.0
    assert list(replies) == [node for node in NODES if node not in hostile]
    assert not reasons(replies)


def test_late_replies_of_honest_nodes_come_in_beside_nodes_that_drip(scripted):
    inner = scripted({10: blocking(30.0), 12: after(0.3), 13: after(0.5), 14: silent})
    replies, took = ask(ArrivingGrid(inner), timeout=1.0)
    assert list(replies) == [11, 12, 13, 15, 16]
    assert took < 10.0


def test_a_slow_upload_that_ends_in_time_is_taken_and_ends_the_round(scripted):
    replies, took = ask(ArrivingGrid(scripted({10: blocking(0.7)})), timeout=10.0)
    assert list(replies) == list(NODES)
    assert 0.7 <= took < 10.0


def test_the_shorter_of_both_timeouts_counts(scripted):
    inner = scripted({10: silent})
    assert ask(ArrivingGrid(inner, 0.2), timeout=60.0)[1] < 10.0
    assert ask(ArrivingGrid(inner, 60.0), timeout=0.2)[1] < 10.0
    assert ask(ArrivingGrid(inner, 0.2))[1] < 10.0


def test_without_a_deadline_it_waits_until_all_have_answered(scripted):
    replies, took = ask(ArrivingGrid(scripted({10: after(0.5), 11: blocking(0.4)})))
    assert list(replies) == list(NODES)
    assert 0.5 <= took < 10.0


def test_a_timeout_of_zero_takes_what_is_there(scripted):
    replies, took = ask(ArrivingGrid(scripted({10: silent})), timeout=0.0)
    assert set(replies) <= set(NODES)
    assert took < 20.0


def test_nothing_is_asked_of_nobody(scripted):
    assert ArrivingGrid(scripted()).send_and_receive([], timeout=5.0) == []


def test_messages_do_not_outlive_their_round_by_hours(scripted):
    inner = scripted()
    ask(ArrivingGrid(inner), timeout=7.0)
    assert {message.metadata.ttl for message in inner.sent.values()} == {7.0 + TTL_MARGIN}


def test_a_reply_that_comes_after_its_round_is_nobodys_in_the_next(scripted):
    inner = scripted({10: blocking(0.6)})
    grid = ArrivingGrid(inner)
    assert 10 not in ask(grid, timeout=0.3)[0]
    inner.scripts.clear()
    time.sleep(0.4)
    replies, _ = ask(grid, timeout=30.0)
    assert list(replies) == list(NODES)
    first_of_second_round = len(NODES) + 1
    assert replies[10].metadata.reply_to_message_id == str(first_of_second_round)


def test_who_still_sends_an_earlier_reply_is_not_asked_again_until_it_has_ended(
    scripted, monkeypatch
):
    monkeypatch.setattr(arrivals, "HELD", 0.2)
    inner = scripted({10: blocking(1.5)})
    grid = ArrivingGrid(inner)
    begin = time.monotonic()
    ask(grid, timeout=0.5)
    before = threading.active_count()
    for _ in range(3):
        replies, took = ask(grid, timeout=30.0)
        assert reasons(replies) == {
            10: "not asked: it is still sending its reply to an earlier message"
        }
        assert took < 20.0
    assert threading.active_count() <= before
    assert sum(m.metadata.dst_node_id == 10 for m in inner.sent.values()) == 1
    inner.scripts.clear()
    time.sleep(max(0.0, begin + 1.7 - time.monotonic()))
    assert not reasons(ask(grid, timeout=30.0)[0])


def test_where_all_answer_at_once_a_round_costs_no_thread_for_each_node(scripted, monkeypatch):
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda self: (started.append(self), start(self))[1]
    )
    grid = ArrivingGrid(scripted())
    for _ in range(50):
        ask(grid, timeout=30.0)
    assert len(started) <= 2


def test_nodes_are_not_polled_without_pause(scripted):
    inner = scripted({10: silent})
    ask(ArrivingGrid(inner), timeout=1.0)
    assert 3 <= inner.pulls[10] <= 8


# --- a quorum, and who owes a reply ---


def ask_quorum(grid, least, nodes=NODES, timeout=60.0, kind_of=None, liars=0):
    """Ask the nodes with a quorum without grace; return replies by node, notes and seconds."""
    kinds = {} if kind_of is None else {"kind_of": kind_of}
    notes = Arrivals(Quorum(least, grace=0.0, wait=0.0), liars=liars, **kinds)
    messages = Questions([Message(RecordDict(), node, "train") for node in nodes], notes)
    begin = time.monotonic()
    replies = grid.send_and_receive(messages, timeout=timeout)
    took = time.monotonic() - begin
    return {reply.metadata.src_node_id: reply for reply in replies}, notes, took


@pytest.mark.parametrize("late", [silent, blocking(30.0)], ids=["silent", "dripping"])
def test_an_exchange_closes_at_its_quorum_and_names_the_late(scripted, late):
    replies, notes, took = ask_quorum(ArrivingGrid(scripted({10: late, 12: late})), least=5)
    assert list(replies) == [11, 13, 14, 15, 16] == sorted(notes.at)
    assert notes.late == [10, 12]
    assert took < 10.0
    assert all(0.0 <= seconds <= took for seconds in notes.at.values())


def test_the_grace_takes_in_who_comes_shortly_after(scripted):
    notes = Arrivals(Quorum(5, grace=0.0, wait=1.2))
    inner = scripted({10: after(0.5), 12: silent})
    messages = Questions([Message(RecordDict(), node, "train") for node in NODES], notes)
    begin = time.monotonic()
    replies = ArrivingGrid(inner).send_and_receive(messages, timeout=20.0)
    assert 1.2 <= time.monotonic() - begin < 10.0
    assert [reply.metadata.src_node_id for reply in replies] == [10, 11, 13, 14, 15, 16]
    assert notes.at[10] >= 0.5
    assert notes.late == [12]


def test_all_answers_end_an_exchange_before_the_least_wait(scripted):
    notes = Arrivals(Quorum(5, wait=60.0))
    messages = Questions([Message(RecordDict(), node, "train") for node in NODES], notes)
    begin = time.monotonic()
    assert len(ArrivingGrid(scripted()).send_and_receive(messages, timeout=90.0)) == len(NODES)
    assert time.monotonic() - begin < 10.0
    assert notes.late == []


def test_after_an_early_close_nobody_is_looked_at_any_more(scripted):
    inner = scripted({12: blocking(2.0)})
    _, notes, took = ask_quorum(ArrivingGrid(inner), least=2)
    time.sleep(max(0.2, 2.2 - took))  # the look that was going on has ended
    assert notes.late == [12, 13, 14, 15, 16]
    assert [inner.pulls[node] for node in NODES] == [1, 1, 1, 0, 0, 0, 0]


def test_errors_and_replies_that_do_not_count_make_no_quorum(scripted):
    inner = scripted({10: gone, 11: raising(ValueError("x")), 12: silent})
    replies, notes, took = ask_quorum(
        ArrivingGrid(inner),
        least=4,
        timeout=0.6,
        kind_of=lambda reply: None if reply.metadata.src_node_id == 13 else "sound",
    )
    assert took >= 0.6
    assert list(replies) == [10, 11, 13, 14, 15, 16]
    assert list(reasons(replies)) == [10, 11]
    assert notes.late == []  # its timeout was over: who did not answer is silent


def test_who_owes_a_reply_is_not_asked_until_it_came_and_was_dropped(scripted):
    ready = threading.Event()
    inner = scripted({10: once(ready)})
    grid = ArrivingGrid(inner)
    assert ask_quorum(grid, least=6)[1].late == [10]
    for _ in range(2):
        replies, notes, took = ask_quorum(grid, least=5)
        assert notes.late == [10]
        assert 10 not in replies
        assert took < 5.0
    assert [m.metadata.dst_node_id for m in inner.sent.values()].count(10) == 1
    ready.set()
    replies, notes, _ = ask_quorum(grid, least=6)
    assert list(replies) == list(NODES)
    assert notes.late == []
    assert int(replies[10].metadata.reply_to_message_id) > 3 * len(NODES) - 2
    assert inner.stored == set()


def test_a_late_reply_that_comes_in_the_middle_of_a_later_exchange_is_dropped(scripted):
    ready = threading.Event()
    inner = scripted({10: once(ready)})
    grid = ArrivingGrid(inner)
    ask_quorum(grid, least=6)
    assert inner.stored == {"1"}
    inner.scripts[11] = after(0.8)
    Timer(0.3, ready.set).start()
    replies, notes, _ = ask_quorum(grid, least=6)
    assert notes.late == [10]
    assert list(replies) == list(NODES)[1:]
    assert inner.stored == set()
    assert list(ask_quorum(grid, least=7)[0]) == list(NODES)


def test_who_owes_is_asked_again_where_the_others_would_be_too_few(scripted):
    # An outage: the messages of the first exchange are lost, and all nodes owe a reply to one.
    def lost(grid, message):
        return None if int(message.metadata.message_id) <= 7 else grid.answer(message)

    grid = ArrivingGrid(scripted(dict.fromkeys(NODES, lost)))
    assert ask_quorum(grid, least=5, timeout=0.5)[0] == {}
    replies, notes, took = ask_quorum(grid, least=7)
    assert list(replies) == list(NODES)
    assert notes.late == []
    assert took < 10.0


def test_who_owes_is_asked_again_where_liars_who_send_nothing_would_leave_too_few(scripted):
    inner = scripted({10: silent, 11: silent})
    grid = ArrivingGrid(inner)
    ask_quorum(grid, least=5)
    ask_quorum(grid, least=5)  # without the two who owe
    assert len(inner.sent) == 7 + 5
    ask_quorum(grid, least=5, liars=1)
    assert len(inner.sent) == 7 + 5 + 7


def test_an_upload_that_began_before_the_close_ends_the_debt_when_it_ends(scripted):
    inner = scripted({10: blocking(0.6)})
    grid = ArrivingGrid(inner)
    assert ask_quorum(grid, least=6)[1].late == [10]
    inner.scripts.clear()
    time.sleep(1.0)
    assert list(ask_quorum(grid, least=7)[0]) == list(NODES)
    assert inner.stored == set()


def test_a_debtor_that_drips_holds_one_thread_and_costs_no_round_more_than_a_look(scripted):
    inner = scripted({10: blocking(30.0)})
    grid = ArrivingGrid(inner)
    ask_quorum(grid, least=6)
    before = threading.active_count()
    for _ in range(3):
        _, notes, took = ask_quorum(grid, least=6)
        assert notes.late == [10]
        assert took < 20.0
    assert threading.active_count() <= before
    assert inner.pulls[10] == 1


def test_an_exchange_without_a_quorum_does_not_ask_who_owes_a_reply_either(scripted):
    ready = threading.Event()
    inner = scripted({10: once(ready)})
    grid = ArrivingGrid(inner)
    ask_quorum(grid, least=6)
    assert list(ask(grid, timeout=20.0)[0]) == list(NODES)[1:]
    ready.set()
    assert list(ask(grid, timeout=20.0)[0]) == list(NODES)


def test_a_node_that_lost_its_message_is_asked_again_once_that_has_expired(scripted, monkeypatch):
    monkeypatch.setattr(arrivals, "TTL_MARGIN", 0.2)
    inner = scripted({10: silent})
    grid = ArrivingGrid(inner)
    assert ask_quorum(grid, least=6, timeout=0.5)[1].late == [10]
    inner.scripts.clear()
    inner.scripts[10] = lambda grid, m: None if m.metadata.message_id == "1" else grid.answer(m)
    time.sleep(1.0)
    assert list(ask_quorum(grid, least=7, timeout=20.0)[0]) == list(NODES)


def test_without_a_quorum_nobody_owes_anything(scripted):
    inner = scripted({10: silent})
    grid = ArrivingGrid(inner)
    assert 10 not in ask(grid, timeout=0.3)[0]
    inner.scripts.clear()
    assert list(ask(grid, timeout=20.0)[0]) == list(NODES)


def test_an_upload_owes_once_it_has_gone_on_for_longer_than_a_question_takes(scripted):
    grid, now = ArrivingGrid(scripted()), time.monotonic()
    grid._pulls.update({"a": (10, now + 60.0 - HELD), "b": (11, now - 0.1 - HELD)})
    assert grid._owing() == {11}


def test_a_node_of_this_process_has_no_arrival():
    class Here(ScriptedGrid, PromptGrid):
        def send_and_receive(self, messages, *, timeout=None):
            return [self.answer(message) for message in messages]

    replies, notes, _ = ask_quorum(ArrivingGrid(Here(NODES)), least=2)
    assert list(replies) == list(NODES)
    assert (notes.at, notes.late) == ({}, [])


# --- what cannot be read, and who is gone ---


class DecodeError(Exception):
    """Stands for protobuf's own."""


@pytest.mark.parametrize("error", [DecodeError("Error parsing message"), KeyError("no such id")])
def test_a_reply_that_cannot_be_read_is_a_failure_of_its_node_and_hides_no_other(scripted, error):
    replies, took = ask(ArrivingGrid(scripted({12: raising(error)})), timeout=5.0)
    assert list(replies) == list(NODES)
    assert reasons(replies) == {12: f"unreadable reply: {type(error).__name__}: {error}"}
    assert took < 10.0


def test_a_metric_record_that_is_no_protobuf_is_a_failure_of_its_node(scripted):
    from flwr.app import MetricRecord
    from google.protobuf.message import DecodeError

    def inflate(grid, message):  # what Flower does inside its pull
        return MetricRecord.inflate(b"MetricRecord  9\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff")

    with pytest.raises(DecodeError):
        inflate(None, None)
    replies, _ = ask(ArrivingGrid(scripted({12: inflate})), timeout=5.0)
    assert list(reasons(replies)) == [12]
    assert "DecodeError" in reasons(replies)[12]


def test_the_text_of_a_failure_stays_on_one_line_and_is_cut(scripted):
    error = ValueError("x\n[INFO] all is well\x1b[2J" + "y" * 10_000)
    (reason,) = reasons(ask(ArrivingGrid(scripted({12: raising(error)})), timeout=5.0)[0]).values()
    assert reason.isprintable()
    assert len(reason) < 1000


def test_the_superlinks_word_for_a_dead_node_is_signed_with_that_node(scripted):
    replies, _ = ask(ArrivingGrid(scripted({11: gone, 15: gone})), timeout=5.0)
    assert list(replies) == list(NODES)
    assert reasons(replies) == {11: "Node Unavailable", 15: "Node Unavailable"}


def test_no_node_can_answer_for_another(scripted):
    def forged(grid, message):
        reply = grid.answer(message)
        reply.metadata.__dict__["_src_node_id"] = 16
        return reply

    replies, _ = ask(ArrivingGrid(scripted({11: forged})), timeout=5.0)
    assert reasons(replies) == {11: "unreadable reply: it is signed by node 16"}
    assert not replies[16].has_error()


def test_a_message_that_is_not_taken_is_a_failure_of_its_node(scripted):
    inner = scripted()
    inner.refuses = {11, 13}
    replies, took = ask(ArrivingGrid(inner), timeout=30.0)
    assert list(replies) == list(NODES)
    assert list(reasons(replies)) == [11, 13]
    assert all("not taken" in reason for reason in reasons(replies).values())
    assert took < 20.0


def test_messages_that_are_left_out_of_the_ids_shift_nobodys_reply(scripted):
    class LeavingOut(ScriptedGrid):
        def push_messages(self, messages):
            return [id_ for id_ in super().push_messages(messages) if id_ is not None]

    inner = LeavingOut(NODES, scripts={12: silent})
    inner.refuses = {10, 13}
    replies, _ = ask(ArrivingGrid(inner), timeout=0.4)
    assert list(reasons(replies)) == [10, 13]
    assert set(replies) == {10, 11, 13, 14, 15, 16}


# --- the end of a run ---


@pytest.mark.parametrize("stop", [RunNotRunningException(), SystemExit(), KeyboardInterrupt()])
def test_a_run_that_is_stopped_ends(scripted, stop):
    inner = scripted({12: raising(stop), 13: silent, 14: blocking(30.0)})
    begin = time.monotonic()
    with pytest.raises(type(stop)):
        ask(ArrivingGrid(inner), timeout=20.0)
    assert time.monotonic() - begin < 10.0


def test_a_superlink_that_answers_nothing_any_more_ends_the_run(scripted):
    class TransportError(Exception):
        pass

    class Dead(ScriptedGrid):
        def get_node_ids(self):
            raise TransportError("connection refused")

    inner = Dead(NODES, scripts={12: raising(TransportError("connection refused"))})
    with pytest.raises(TransportError, match="connection refused"):
        ask(ArrivingGrid(inner), timeout=20.0)


def test_threads_that_are_held_do_not_keep_a_process_from_ending(scripted):
    ask(ArrivingGrid(scripted({10: blocking(30.0)})), timeout=0.3)
    held = [thread for thread in threading.enumerate() if thread.name.endswith("(_work)")]
    assert held
    assert all(thread.daemon for thread in held)


# --- grids of one's own ---


def test_a_grid_is_wrapped_once():
    grid = ScriptedGrid(NODES)
    once = arriving(grid)
    assert isinstance(once, ArrivingGrid)
    assert arriving(once) is once


def test_a_grid_that_is_wrapped_already_keeps_replies_where_the_next_strategy_says(tmp_path):
    wrapped = arriving(ScriptedGrid(NODES))
    assert wrapped.spill is None
    kept = Spill(0, tmp_path)
    assert arriving(wrapped, spill=kept).spill is kept
    assert arriving(wrapped).spill is None


def test_what_only_looks_like_a_grid_is_left_as_it_is():
    class Duck:
        def send_and_receive(self, messages, *, timeout=None):
            return []

    for grid in (Duck(), Mock(spec=Grid)):
        assert arriving(grid) is grid


@pytest.mark.parametrize("push", [lambda self, messages: [], lambda self, messages: None, None])
def test_a_grid_that_can_only_send_and_receive_does_so(push):
    class Whole(ScriptedGrid):
        def push_messages(self, messages):
            if push is None:
                raise NotImplementedError
            return push(self, messages)

        def send_and_receive(self, messages, *, timeout=None):
            assert timeout == 5.0
            return [self.answer(message) for message in messages]

    assert list(ask(ArrivingGrid(Whole(NODES)), timeout=5.0)[0]) == list(NODES)


def test_nodes_of_this_process_are_asked_without_a_thread(monkeypatch):
    class Here(ScriptedGrid, PromptGrid):
        def send_and_receive(self, messages, *, timeout=None):
            return [self.answer(message) for message in messages]

    monkeypatch.setattr(crew, "Thread", None)
    assert list(ask(ArrivingGrid(Here(NODES)), timeout=5.0)[0]) == list(NODES)


def test_everything_else_is_the_grids_own(scripted):
    inner = scripted(names={10: "ten"})
    grid = ArrivingGrid(inner)
    grid.set_run("a run")
    assert inner._run == "a run"
    assert grid.run == inner.run
    assert list(grid.get_node_ids()) == list(NODES)
    assert [node.name for node in grid.get_nodes()][:2] == ["ten", ""]
    assert grid.nodes is inner.nodes
    (id_,) = grid.push_messages([grid.create_message(RecordDict(), "query", 10, "g")])
    assert len(list(grid.pull_messages([id_]))) == 1
    assert not hasattr(grid, "no_such_thing")


def test_many_exchanges_at_once_do_not_disturb_each_other(scripted):
    grid = ArrivingGrid(scripted({10: after(0.2), 11: blocking(0.3)}))
    found = {}

    def exchange(node):
        found[node] = ask(grid, [node], timeout=5.0)[0]

    threads = [threading.Thread(target=exchange, args=(node,)) for node in NODES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(list(found[node]) == [node] for node in NODES)


def test_flowers_log_is_left_alone(scripted, caplog):
    logging.getLogger("flwr").addHandler(caplog.handler)
    ask(ArrivingGrid(scripted({10: gone, 11: raising(ValueError("x"))})), timeout=5.0)
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert caplog.records == []
