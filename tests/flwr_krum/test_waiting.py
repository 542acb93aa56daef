"""Rounds that do not wait for everybody: what they take, whom they name, and what stays."""

import itertools
import threading
from functools import partial

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.common import ndarrays_to_parameters
from flwr.server import SimpleClientManager

import flwr_krum.server.strategy as fit
import flwr_krum.serverapp.strategy as messages
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.boundary.replies import Reply
from flwr_krum.in_force import f_in_force, quorum_in_force
from flwr_krum.journal import read_journal
from flwr_krum.report import RoundReport, always_late
from flwr_krum.round import Rounds
from flwr_krum.rules import Average, FLTrust, Krum, Median, MultiKrum, TrimmedMean
from tests.flwr_krum.boundary.grids import after, gone, silent
from tests.flwr_krum.federations import FakeGrid, FakeProxy
from tests.flwr_krum.npy_bytes import npy
from tests.flwr_krum.runs import MODEL, NODES, Fit, Messages, vector

AT_ONCE = Quorum(7, grace=0.0, wait=0.0)
"""Of ten nodes with f = 2: the least that Krum's kin can do with."""


@pytest.fixture
def play(play):
    """Run a federation whose rounds close at their quorum, and in which nodes follow a script."""
    return partial(play, quorum=AT_ONCE, timeout=30.0)


# --- through both APIs ---


def test_a_round_closes_at_its_quorum_and_names_the_late(play, api, tmp_path):
    path = tmp_path / "journal.jsonl"
    strategy, took, _ = play(dict.fromkeys(NODES[:3], silent), journal=path)
    (report,) = strategy.reports
    assert took < 15.0
    assert report.late == tuple(map(api.name, NODES[:3]))
    assert report.received == tuple(map(api.name, NODES[3:]))
    assert report.silent == ()
    assert report.failed == {}
    assert report.byzantine == 2
    assert report.stepped
    assert set(report.arrived) == set(map(api.name, NODES[3:]))
    assert all(0.0 <= seconds < took for seconds in report.arrived.values())
    assert read_journal(path) == strategy.reports


def test_the_late_are_not_asked_while_they_owe_a_reply_and_it_never_counts_later(play, api):
    ready, trained = threading.Event(), []

    def stale(grid, message):
        """Send, as the reply to the first round, a model that would be seen in any later one."""
        trained.append(message.metadata.message_id)
        return poisoned(api, message) if ready.is_set() else None

    def answering(grid, message):
        if len(rounds) < 2:
            return grid.answer(message)
        ready.set()  # in the third round, which lasts until the late reply was taken
        return grid.answer(message) if trained[0] in grid.delivered else None

    rounds = []
    scripts = {10: stale, 11: answering}
    options = {
        Messages: {"train_metrics_aggr_fn": lambda *_: rounds.append(1) or {}},
        Fit: {"fit_metrics_aggregation_fn": lambda *_: rounds.append(1) or {}},
    }[api]
    strategy, took, grid = play(scripts, rounds=3, quorum=Quorum(7, 0.0, 2.0), **options)
    assert [report.late for report in strategy.reports] == [(api.name(10),)] * 3
    assert all(report.received == tuple(map(api.name, NODES[1:])) for report in strategy.reports)
    assert len(set(trained)) == 1
    assert grid.stored == set()
    assert took < 20.0


def poisoned(api, message):
    reply = api.answer(message)
    for record in reply.content.array_records.values():
        for key in record:
            record[key] = Array(np.full(3, 1e9, np.float32))
    return reply


def test_who_is_late_in_three_rounds_running_is_named_in_a_warning_once(play, api):
    strategy, _, _ = play({10: silent, 13: silent}, rounds=5)
    warned = [report.server_round for report in strategy.reports if "late" in report.note]
    assert warned == [3]
    assert strategy.reports[2].note == (
        "late in 3 rounds running, and left out of the model: 10, 13"
    )
    assert strategy.reports[2].is_remarkable()


def test_errors_refused_replies_and_repeated_names_make_no_quorum(play, api):
    def refused(grid, message):
        reply = api.answer(message)
        for record in reply.content.array_records.values():
            for key in record:
                record[key] = Array(np.full(3, np.nan, np.float32))
        return reply

    scripts = {10: gone, 11: refused, 12: refused, 13: after(0.7), 14: silent}
    strategy, took, _ = play(scripts, quorum=AT_ONCE, timeout=1.5)
    (report,) = strategy.reports
    assert took >= 1.5  # six sound replies are no quorum of seven
    assert report.late == ()
    assert report.silent == (api.name(14),)
    assert [reply.client for reply in report.refused] == list(map(api.name, (11, 12)))
    assert api.name(13) in report.received


def test_one_name_for_two_nodes_does_not_count_twice_towards_a_quorum(play, api):
    def name(client):
        node = client if isinstance(client, int) else int(client.cid)
        return max(node, 12)  # nodes 10, 11 and 12 are one

    strategy, took, _ = play({13: silent}, timeout=1.0, client_id=name)
    assert took >= 1.0
    assert strategy.last_report.silent == (13,)


@pytest.mark.parametrize("api", [Fit], ids=["server"])  # others' replies have no status
def test_who_reports_a_status_other_than_ok_makes_no_quorum(play, api):
    def failing(grid, message):
        reply = api.answer(message)
        reply.content.config_records["fitres.status"]["code"] = 1
        return reply

    strategy, took, _ = play(dict.fromkeys(NODES[:4], failing) | {15: silent}, timeout=1.0)
    assert took >= 1.0
    assert len(strategy.last_report.failed) == 4
    assert strategy.last_report.silent == ("15",)


def test_nodes_in_quarantine_put_no_quorum_out_of_reach(play, api):
    def refused(grid, message):
        reply = api.answer(message)
        for record in reply.content.array_records.values():
            for key in record:
                record[key] = Array(np.full(3, np.nan, np.float32))
        return reply

    scripts = {10: refused, 11: refused, 12: silent}
    options = {"quorum": Quorum(8, 0.0, 0.0), "timeout": 1.5, "quarantine": 1, "rounds": 3}
    strategy, *_ = play(scripts, **options)
    first, *later = strategy.reports
    assert first.silent == (api.name(12),)  # until the timeout: seven sound ones are no eight
    for report in later:
        assert report.quarantined == tuple(map(api.name, (10, 11)))
        assert len(report.received) == 7
        assert report.late == (api.name(12),)
        assert report.stepped


def test_of_the_asked_as_many_may_be_missing_as_of_the_sampled_but_f_at_most():
    for quorum, f, sampled in itertools.product(range(11, 23), range(5), range(9, 25)):
        for asked in range(sampled + 1):
            found = quorum_in_force(quorum, 11, f, sampled, asked)
            assert 11 <= found <= quorum
            if asked >= quorum + f or asked == sampled >= quorum:
                assert found == quorum
            if found not in (11, quorum):  # then it is in reach, whoever of so many is silent
                assert asked - found == (min(f, sampled - quorum) if sampled > quorum else 0)


def test_an_evaluation_does_not_wait_for_the_late_either(play, api):
    def slow_to_evaluate(grid, message):
        return None if message.metadata.message_type == "evaluate" else grid.answer(message)

    strategy, took, _ = play({10: slow_to_evaluate}, rounds=2, fraction_evaluate=1.0)
    assert took < 20.0
    assert [report.late for report in strategy.reports] == [(), (api.name(10),)]


def test_without_a_quorum_a_round_waits_and_says_when_replies_came(play, api):
    strategy, took, _ = play({10: after(0.6)}, quorum=None)
    report = strategy.last_report
    assert took >= 0.6
    assert report.arrived[api.name(10)] >= 0.6
    assert set(report.arrived) == set(map(api.name, NODES))
    assert report.late == ()
    assert any(line.startswith("the replies came within") for line in report.lines())


# --- what is legal ---


@pytest.mark.parametrize(
    ("rule", "quorum", "told"),
    [
        (MultiKrum(f=4), 10, "MultiKrum needs 11 replies at f=4: legal is a quorum >= 11"),
        (Krum(f=1), 4, "Krum needs 5 replies at f=1: legal is a quorum >= 5"),
        (MultiKrum(), 11, "the f of MultiKrum follows the replies"),
        (Median(), 11, "the f of Median follows the replies"),
        (TrimmedMean(beta=0.2), 11, "the f of TrimmedMean follows the replies"),
    ],
)
def test_a_quorum_that_is_too_small_for_the_declared_f_is_refused_with_the_legal_ones(
    rule, quorum, told
):
    for module in (messages, fit):
        with pytest.raises(ValueError, match=f"quorum is {quorum}, and .*{told}"):
            module.RobustAggregation(rule, quorum=quorum)


def test_the_least_quorum_is_legal():
    for rule, quorum in [(MultiKrum(f=4), 11), (Median(f=4), 9), (Average(), 1), (FLTrust(f=1), 2)]:
        options = {"root": lambda model: model} if rule.server_rows else {}
        assert Rounds(rule, quorum=quorum, **options).quorum == Quorum(quorum)


def test_a_cap_of_weights_asks_for_a_larger_quorum():
    weights = dict.fromkeys(range(20), 1.0)
    with pytest.raises(ValueError, match="needs 8 replies at f=2: legal is a quorum >= 8"):
        Rounds(MultiKrum(f=2), quorum=7, weights=weights, weight_cap=0.25)
    assert Rounds(MultiKrum(f=2), quorum=8, weights=weights, weight_cap=0.25).quorum


def test_a_quorum_and_no_accepted_failures_are_refused_together():
    with pytest.raises(ValueError, match="quorum leaves clients behind, and accept_failures=False"):
        fit.MultiKrum(num_malicious_clients=2, quorum=7, accept_failures=False)


def test_a_client_that_no_grid_reaches_is_refused_by_name():
    strategy = fit.MultiKrum(num_malicious_clients=2, quorum=7)
    manager = SimpleClientManager()
    for i in range(10):
        manager.register(FakeProxy(str(i)))
    with pytest.raises(ValueError, match=r"Flower reaches client \d, a FakeProxy, without a grid"):
        strategy.configure_fit(1, ndarrays_to_parameters(MODEL), manager)


def test_a_grid_that_waits_for_all_is_refused_by_name():
    strategy = messages.MultiKrum(num_malicious_nodes=2, quorum=7)
    grid = FakeGrid(list(NODES), lambda *_: None)
    with pytest.raises(ValueError, match=r"FakeGrid waits for all: ask through .*ArrivingGrid"):
        strategy.configure_train(1, ArrayRecord(MODEL), ConfigRecord(), grid)


def test_the_summary_says_when_a_round_closes_and_what_share_liars_may_be():
    lines = Rounds(MultiKrum(f=4), quorum=11).summary("MultiKrum")
    (line,) = [line for line in lines if "A round closes" in line]
    assert line.endswith(
        "after 11 replies, and 0.5 times their median arrival more, not before 5 s; "
        "f liars who answer first are 4 of 11"
    )


# --- f, and the selection ---


def test_the_late_never_lower_f_whatever_is_refused():
    for accepted, refused, late in itertools.product(range(21), range(6), range(1, 10)):
        assert f_in_force(MultiKrum(f=4), accepted, refused, 20, late).f == 4
    lowered = f_in_force(MultiKrum(f=4), 10, 1, 20)
    assert lowered.f == 3  # without the late it would be
    told = f_in_force(MultiKrum(f=4), 10, 1, 20, late=9)
    assert told.basis == "declared; 1 replies were refused, and 9 were late"


def test_a_round_with_late_and_refused_replies_is_skipped_rather_than_run_on_a_smaller_f():
    rounds = Rounds(MultiKrum(f=2), quorum=7)
    rounds.begin({"0": np.zeros(3, np.float32)}, range(10))
    replies = [Reply(i, {"0": npy(vector(i))}) for i in range(6)]
    replies.append(Reply(6, {"0": npy(np.full(3, np.nan, np.float32))}))
    model, report = rounds.finish(1, replies, late=[7, 8, 9])
    assert (model, report.byzantine, report.late) == (None, 2, (7, 8, 9))


def outcome(rounds, replies, late):
    model, report = rounds.finish(1, replies, late=late)
    return {key: bytes(data) for key, data in model.items()}, report.selected, report.scores


def asked(n, f, quorum):
    """Return a round with n asked, of whom those from the quorum on are late, and f lie."""
    rng = np.random.default_rng(n)
    rounds = Rounds(MultiKrum(f=f), quorum=quorum)
    rounds.begin({"0": np.zeros(5, np.float32)}, range(n))
    rows = rng.standard_normal((n, 5)).astype(np.float32)
    rows[:f] *= 100.0
    rows[f + 1] = rows[f]  # a tie
    return rounds, [Reply(i, {"0": npy(row)}) for i, row in enumerate(rows)][:quorum]


@pytest.mark.slow
def test_the_selection_is_a_function_of_the_set_taken_in_all_orders_of_six():
    rounds, replies = asked(8, 1, 6)
    reference = outcome(rounds, replies, [6, 7])
    for order in itertools.permutations(replies):
        assert outcome(rounds, order, [7, 6]) == reference


@pytest.mark.parametrize("orders", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_selection_is_a_function_of_the_set_taken_in_any_order_of_sixteen(orders):
    rounds, replies = asked(20, 4, 16)
    reference = outcome(rounds, replies, range(16, 20))
    rng = np.random.default_rng(0)
    for _ in range(orders):
        order = [replies[i] for i in rng.permutation(16)]
        assert outcome(rounds, order, range(16, 20)) == reference


# --- what a reply counts as ---


def test_a_reply_counts_by_its_keys_and_one_that_would_be_refused_does_not():
    rounds = Rounds(MultiKrum(f=1), quorum=5, max_reply_bytes=10_000)
    rounds.begin({"a": np.zeros(3, np.float32), "b": np.zeros(2, np.float32)}, [0, 1, 2, 2])
    a, b = npy(np.ones(3, np.float32)), npy(np.ones(2, np.float32))
    assert rounds.kind_of(Reply(0, {"a": a, "b": b})) == {"a", "b"}
    assert rounds.kind_of(Reply(0, {"a": a})) == {"a"}
    for sent in ({"a": b, "b": b}, {"c": a}, {"a": npy(np.full(3, np.inf, np.float32))}, None):
        assert rounds.kind_of(Reply(0, sent)) is None
    assert rounds.kind_of(Reply(2, {"a": a, "b": b})) is None  # two nodes go by its name
    assert rounds.kind_of(Reply(9, {"a": a, "b": b})) is None  # it was not asked


def test_a_site_without_a_declared_weight_does_not_count():
    rounds = Rounds(MultiKrum(f=1), quorum=5, weights={0: 1.0, 1: 2.0, 2: 1.0, 3: 1.0, 4: 1.0})
    rounds.begin({"0": np.zeros(3, np.float32)}, range(6))
    sent = {"0": npy(vector(0))}
    assert rounds.kind_of(Reply(4, sent)) == {"0"}
    assert rounds.kind_of(Reply(5, sent)) is None


# --- in the report ---


def late_in(server_round, late=(), **fields):
    return RoundReport(server_round, "Krum(f=1)", 1, late=late, **fields)


def test_a_warning_wants_three_rounds_in_which_the_node_was_asked():
    late, elsewhere, heard = late_in(1, (7,)), late_in(1, (8,)), late_in(1, received=(7,))
    assert always_late([late, late], (7, 9)).endswith(": 7")
    assert always_late([late, elsewhere, late], (7,)).endswith(": 7")
    assert always_late([late, heard, late], (7,)) == ""
    assert always_late([late, late, late], (7,)) == ""  # it was said a round before
    assert always_late([heard, late], (7,)) == ""
    assert always_late([], ()) == ""


def test_a_report_tells_of_the_late_and_of_arrivals():
    report = late_in(1, (7, 8), received=(1, 2, 3), arrived={1: 0.25, 2: 1.5, 3: 4.0})
    assert report.lines()[1:3] == [
        "closed without 2 late: 7, 8",
        "the replies came within 4 s, half of them within 1.5 s",
    ]


def test_a_journal_of_before_there_were_quorums_is_read():
    values = late_in(1, received=(1,)).to_json()
    del values["late"], values["arrived"]
    found = RoundReport.from_json(values)
    assert (found.late, found.arrived) == ((), {})
