from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pytest

from flwr_krum.boundary.npy import decode, encode
from flwr_krum.boundary.replies import Reply
from flwr_krum.journal import read_journal
from flwr_krum.kernel.clock import Stage
from flwr_krum.ledger import REPORTS_KEPT
from flwr_krum.round import InfeasibleRoundError, Rounds
from flwr_krum.rules import Average, Krum, Medoid, MultiKrum, OneMinusPKrum
from tests.flwr_krum.npy_bytes import npy
from tests.flwr_krum.references import CONFORMANCE, best, f_in_force, krum_scores, squared_distances


@pytest.fixture
def replies():
    def build(values, start=1, dtype=np.float64):
        return [Reply(start + i, {"w": npy(np.array([v], dtype))}) for i, v in enumerate(values)]

    return build


def known(rounds, asked=range(1, 100), w=0.0, dtype=np.float64):
    rounds.begin({"w": np.array([w], dtype)}, asked)
    return rounds


# --- what happened ---


def test_a_round_returns_the_new_model_and_reports_by_client(replies):
    rounds = known(Rounds(Krum(1), certificate=True), [5, 4, 3, 2, 1])
    model, report = rounds.finish(7, replies(CONFORMANCE)[::-1])
    assert decode(model["w"]).tolist() == [10]
    assert report.server_round == 7
    assert report.byzantine == 1
    assert report.received == (1, 2, 3, 4, 5)
    assert report.selected == (4,)
    assert report.scores == {1: 45, 2: 18, 3: 25, 4: 17, 5: 26}
    assert report.weights == {4: 1.0}
    assert report.stepped
    assert (report.note, report.refused, report.silent, dict(report.failed)) == ("", (), (), {})
    assert set(report.seconds) == set(get_args(Stage))
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert list(rounds.reports) == [report]


def test_what_a_rule_has_to_say_is_told_also_where_its_step_is_not_taken(replies):
    class Talkative(Average):
        def choose(self, geometry, server_round):
            return replace(super().choose(geometry, server_round), note="undecided: all")

    for limit, end in ((None, ""), (1e-3, "; ")):
        rounds = known(Rounds(Talkative(), largest_step=limit), w=5.0)
        _, report = rounds.finish(1, replies([5.0, 6.0, 7.0]))
        assert report.stepped == (limit is None)
        assert report.note.startswith(f"undecided: all{end}")


def test_the_report_names_the_selected_best_first_with_their_weights(replies):
    _, report = known(Rounds(MultiKrum(1, m=2))).finish(1, replies(CONFORMANCE))
    assert report.selected == (4, 2)
    assert report.weights == {2: 0.5, 4: 0.5}


def test_the_report_tells_the_silent_from_the_failed(replies):
    rounds = known(Rounds(Krum(1)), [9, 8, 7, 6, 5, 4, 3, 2, 1, 10])
    _, report = rounds.finish(1, replies(CONFORMANCE), {8: "out of memory", 10: "gone"})
    assert report.silent == (6, 7, 9)
    assert report.failed == {8: "out of memory", 10: "gone"}
    assert report.byzantine == 1


def test_a_rule_without_scores_reports_none(replies):
    _, report = known(Rounds(Average())).finish(1, replies(CONFORMANCE))
    assert report.scores == {}
    assert report.selected == (1, 2, 3, 4, 5)


def test_only_the_last_reports_are_kept(replies, monkeypatch):
    assert Rounds(Krum(1)).reports.maxlen == REPORTS_KEPT == 10_000
    rounds = Rounds(Krum(1))
    for t in range(1, 10_003):
        rounds.finish(t, [])
    assert len(rounds.reports) == 10_000
    assert (rounds.reports[0].server_round, rounds.reports[-1].server_round) == (3, 10_002)


def test_without_a_global_model_the_smallest_id_does_not_choose_the_dtypes():
    def reply(client, w, k):
        return Reply(client, {"w": npy(w), "k": npy(k)})

    honest = [reply(i, np.array([1e5 + i], np.float32), np.array([1000 + i])) for i in range(1, 7)]
    hostile = reply(0, np.array([0.0], np.float16), np.array([1], np.int8))
    model, report = Rounds(Krum(1)).finish(1, [hostile, *honest])
    assert report.stepped
    assert decode(model["w"]).dtype == np.float32
    assert decode(model["k"]).dtype == np.int64
    assert decode(model["k"])[0] == 1003


# --- f and the replies ---


@pytest.mark.parametrize("good", [6, 7, 8, 9, 10, 12])
@pytest.mark.parametrize("bad", range(6))
def test_f_is_lowered_by_no_more_than_refusals_account_for(replies, good, bad):
    rounds = known(Rounds(Krum(3)))
    sent = [*replies(range(good)), *replies([np.nan] * bad, start=50)]
    _, report = rounds.finish(1, sent)
    f = f_in_force(3, good, bad)
    assert report.byzantine == f
    assert report.rule == f"Krum(f={f}, strict=True)"
    assert len(report.refused) == bad
    assert report.stepped == (good >= 2 * f + 3)


def test_where_nobody_knows_who_was_asked_every_refusal_lowers_f(replies):
    sent = [*replies(range(8)), *replies([np.nan], start=50)]
    _, report = Rounds(Krum(3)).finish(1, sent)
    assert len(report.refused) == 1
    assert report.byzantine == f_in_force(3, 8, 1) == 2
    _, report = known(Rounds(Krum(3)), range(1, 20)).finish(1, sent)
    assert report.byzantine == 3  # 50 was not asked, and decides nothing


def test_the_lowered_f_is_the_one_that_scores(replies):
    values = [0.0, 1.0, 2.5, 4.0, 7.0, 30.0]
    squared = squared_distances([[v] for v in values])
    sent = [*replies(values), *replies([np.nan], start=50)]
    _, report = known(Rounds(Krum(2))).finish(1, sent)
    assert list(report.scores.values()) == krum_scores(squared, 6 - 1 - 2)
    _, report = known(Rounds(Krum(1))).finish(1, replies(values))
    assert list(report.scores.values()) == krum_scores(squared, 6 - 1 - 2)


def test_a_lowered_f_is_for_one_round_only(replies):
    rounds = known(Rounds(Krum(1)))
    _, report = rounds.finish(1, [*replies(CONFORMANCE[:4]), *replies([np.nan], start=50)])
    assert report.byzantine == 0
    _, report = rounds.finish(2, replies(CONFORMANCE))
    assert report.byzantine == 1
    assert report.selected == (4,)


def test_multi_krum_averages_n_minus_the_f_in_force_and_never_more(replies):
    sent = [*replies(range(8)), *replies([np.nan], start=50)]
    _, report = known(Rounds(MultiKrum(3))).finish(1, sent)
    assert len(report.selected) == 8 - 2
    _, report = known(Rounds(MultiKrum(3, m=8))).finish(1, sent)
    assert len(report.selected) == 8 - 2
    _, report = known(Rounds(MultiKrum(3, m=4))).finish(1, sent)
    assert len(report.selected) == 4


def test_six_malformed_of_twenty_do_not_cost_a_round_at_f_6(replies):
    sent = [*replies(range(14)), *replies([np.nan] * 6, start=50)]
    model, report = known(Rounds(Krum(6))).finish(1, sent)
    assert report.stepped
    assert report.byzantine == 5  # the most that 14 replies bear
    (chosen,) = best(krum_scores(squared_distances([[v] for v in range(14)]), 14 - 5 - 2), 1)
    assert decode(model["w"])[0] == chosen


# --- infeasible rounds ---


def test_too_few_replies_keep_the_model_and_say_so(replies):
    model, report = known(Rounds(Krum(1))).finish(1, replies([1.0, 2.0, 3.0, 4.0]))
    assert model is None
    assert not report.stepped
    assert report.selected == ()
    assert "got n=4, f=1" in report.note
    assert report.received == (1, 2, 3, 4)


def test_raise_raises_and_still_reports(replies):
    rounds = known(Rounds(Krum(1), on_infeasible="raise"))
    with pytest.raises(InfeasibleRoundError, match=r"round 3: Krum needs 2f .* got n=4, f=1"):
        rounds.finish(3, replies([1.0, 2.0, 3.0, 4.0]))
    assert "got n=4, f=1" in rounds.reports[-1].note
    with pytest.raises(InfeasibleRoundError, match="round 4: no reply was accepted"):
        rounds.finish(4, [])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_degrade_goes_on_with_at_least_one_neighbour(replies, n):
    values = [4.0, 1.0, 1.5, 9.0][:n]
    model, report = known(Rounds(Krum(1), on_infeasible="degrade")).finish(1, replies(values))
    scores = krum_scores(squared_distances([[v] for v in values]), max(1, n - 1 - 2))
    assert decode(model["w"]).tolist() == [values[best(scores, 1)[0]]]
    assert report.stepped
    assert "strict=False" in report.rule
    assert f"got n={n}, f=1" in report.note


def test_degraded_multi_krum_averages_at_least_one_and_at_most_all(replies):
    for n in (1, 2, 3, 4):
        rounds = known(Rounds(MultiKrum(2, m=9), on_infeasible="degrade"))
        _, report = rounds.finish(1, replies(CONFORMANCE[:n]))
        assert len(report.selected) == max(1, n - 2)


def test_degrade_is_not_needed_where_the_rule_is_feasible(replies):
    _, report = known(Rounds(Krum(1), on_infeasible="degrade")).finish(1, replies(CONFORMANCE))
    assert report.rule == "Krum(f=1, strict=True)"
    assert report.note == ""


@pytest.mark.parametrize("on_infeasible", ["skip", "degrade"])
def test_no_replies_keep_the_model(on_infeasible):
    model, report = known(Rounds(Krum(1), on_infeasible), [1, 2]).finish(1, [])
    assert model is None
    assert report.note == "no reply was accepted"
    assert report.silent == (1, 2)
    assert not report.stepped


def test_a_single_reply_is_taken_only_from_a_single_client_or_by_a_rule_that_bears_none(replies):
    for rule, asked in ((Average(), [1, 2, 3]), (Medoid(0), [1, 2, 3]), (Medoid(), [1])):
        model, _ = known(Rounds(rule, largest_step=math.inf), asked).finish(1, replies([5.0]))
        assert decode(model["w"]).tolist() == [5]
    model, report = known(Rounds(Medoid()), [1, 2, 3]).finish(1, replies([5.0]))
    assert model is None
    assert "needs 2f < n, got n=1, f=1" in report.note
    assert report.basis == "at least 1 where 3 clients are asked"


# --- server learning rate ---


@pytest.mark.parametrize("rate", [0.25, 1.0, 1.5, 2])
def test_the_rate_scales_the_step_from_the_global_model(replies, rate):
    rounds = known(Rounds(Krum(1), server_learning_rate=rate), w=2.0)
    model, _ = rounds.finish(1, replies(CONFORMANCE))
    assert decode(model["w"]).tolist() == [2 + rate * (10 - 2)]


def test_the_rate_may_be_a_function_of_the_round(replies):
    rounds = known(Rounds(Krum(1), server_learning_rate=lambda t: 1 / t), w=2.0)
    for t in (1, 2, 4):
        model, _ = rounds.finish(t, replies(CONFORMANCE))
        assert decode(model["w"]).tolist() == [2 + (10 - 2) / t]


def test_rate_one_takes_the_aggregate_bit_for_bit(replies):
    model, _ = known(Rounds(Krum(1)), w=1e16).finish(1, replies([0.1] * 5))
    assert decode(model["w"]).tolist() == [0.1]


def test_the_step_is_taken_in_float64_and_keeps_dtypes_shapes_and_counters():
    rng = np.random.default_rng(0)
    base, new = (
        {
            "a": rng.standard_normal((20, 20)).astype(np.float16),
            "b": rng.standard_normal(20_000).astype(np.float32),
            "k": np.array([count]),
            "s": np.array(rng.standard_normal()),
        }
        for count in (7, 9)
    )
    rounds = Rounds(Krum(1), server_learning_rate=0.3)
    rounds.begin(base, range(5))
    sent = {key: npy(array) for key, array in new.items()}
    model, _ = rounds.finish(1, [Reply(i, sent) for i in range(5)])
    for key, array in base.items():
        x, y = array.astype(float), new[key].astype(float)
        expected = np.array([9]) if key == "k" else (x + 0.3 * (y - x)).astype(array.dtype)
        np.testing.assert_array_equal(decode(model[key]), expected)
        assert (decode(model[key]).dtype, decode(model[key]).shape) == (array.dtype, array.shape)
    assert base["k"] == 7


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_step_towards_a_single_client_is_taken_whatever_the_order_of_its_numbers(order):
    base, new = np.zeros((40, 30)), np.arange(1200.0).reshape(40, 30)
    rounds = Rounds(Krum(1), server_learning_rate=0.5)
    rounds.begin({"w": base}, range(5))
    sent = {"w": npy(np.asarray(new, order=order))}
    model, _ = rounds.finish(1, [Reply(i, sent) for i in range(5)])
    np.testing.assert_array_equal(decode(model["w"]), new / 2)


def test_a_rate_without_a_known_model_is_a_clear_error(replies):
    rounds = Rounds(Krum(1), server_learning_rate=0.5)
    with pytest.raises(ValueError, match=r"a server learning rate of 0\.5 needs the global model"):
        rounds.finish(1, replies(CONFORMANCE))
    model, _ = Rounds(Krum(1)).finish(1, replies(CONFORMANCE))
    assert decode(model["w"]).tolist() == [10]


@pytest.mark.parametrize("rate", [-1.0, True, float("nan"), float("inf"), "1", None])
def test_an_illegal_rate_is_named(replies, rate):
    with pytest.raises(ValueError, match="server_learning_rate must be a finite number >= 0, got"):
        Rounds(Krum(1), server_learning_rate=rate)
    rounds = known(Rounds(Krum(1), server_learning_rate=lambda t: rate))
    with pytest.raises(ValueError, match=r"server_learning_rate\(3\) must be a finite number >= 0"):
        rounds.finish(3, replies(CONFORMANCE))
    assert "server_learning_rate(3) must be" in rounds.reports[-1].note


def raising(*_):
    raise ZeroDivisionError("division by\nzero")


@dataclass(frozen=True)
class Raising(Krum):
    """A rule of the user's own with a mistake in it."""

    def choose(self, geometry, server_round):
        raising()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"server_learning_rate": raising}, "server_learning_rate(2) raises ZeroDivisionError: "),
        ({"server_learning_rate": lambda t: math.nan}, "server_learning_rate(2) must be a finite"),
        ({"rule": OneMinusPKrum(1, raising)}, "ZeroDivisionError: division by"),
        ({"rule": OneMinusPKrum(1, lambda t: math.nan)}, "p must be a probability in [0, 1], got "),
        ({"rule": Raising(1)}, "ZeroDivisionError: division by"),
    ],
)
def test_a_function_of_the_operator_that_fails_leaves_a_report_that_says_so(
    replies, tmp_path, options, said
):
    rounds = known(Rounds(**{"rule": Krum(1), "journal": tmp_path / "j", **options}))
    with pytest.raises((ValueError, ZeroDivisionError)):
        rounds.finish(2, replies(CONFORMANCE))
    (report,) = rounds.reports
    assert read_journal(tmp_path / "j") == [report]
    assert said in report.note
    assert "\n" not in report.note
    assert (report.server_round, report.stepped, len(report.received)) == (2, False, 5)
    assert "the global model stays as it is" in report.lines()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_step_that_overflows_keeps_the_model(replies):
    sent = replies([3e38] * 5, dtype=np.float32)
    rounds = Rounds(Krum(1), server_learning_rate=2.0)
    rounds.begin({"w": np.array([0], np.float32)}, range(1, 6))
    model, report = rounds.finish(1, sent)
    assert model is None
    assert not report.stepped
    assert report.note == "the aggregate is not finite"


@pytest.mark.parametrize("rate", [np.float32(0.5), np.int64(1)])
def test_numpy_numbers_are_learning_rates(rate):
    Rounds(Krum(1), server_learning_rate=rate)


# --- settings ---


def test_settings_are_checked():
    with pytest.raises(TypeError, match=r"rule must be a flwr_krum rule such as Krum\(f=1\), got"):
        Rounds("krum")
    with pytest.raises(ValueError, match=r"on_infeasible must be one of .*'skip'.* got 'panic'"):
        Rounds(Krum(1), on_infeasible="panic")


def test_a_device_that_is_not_there_is_refused_before_a_round_is_asked(monkeypatch):
    monkeypatch.setattr("flwr_krum.kernel.ways.numba_is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"device='cpu:numba' needs numba"):
        Rounds(Krum(1), device="cpu:numba")


def test_the_summary_is_a_branch_in_the_style_of_flower():
    lines = Rounds(Krum(2), "degrade", lambda t: 1.0).summary("Krum")
    assert lines[:4] == [
        "\t├──> Krum settings:",
        "\t│\t├── Rule: Krum(f=2, strict=True)",
        "\t│\t├── When infeasible: degrade",
        lines[3],
    ]
    assert lines[3].endswith("Server learning rate: a function of the round")
    assert [line.startswith("\t│\t└── ") for line in lines].index(True) == len(lines) - 1
    assert any(line.endswith("rate: 1.0") for line in Rounds(Krum(2)).summary("Krum"))


def test_one_minus_p_krum_draws_by_the_round_it_is_told(replies):
    rule = OneMinusPKrum(1, seed=5)
    rounds = known(Rounds(rule))
    for t in (1, 2, 3, 17, 9, 40):
        model, _ = rounds.finish(t, replies(CONFORMANCE))
        assert decode(model["w"]).tolist() == ([6] if rule.averages(t) else [10])


def test_a_rule_that_draws_has_a_seed_of_its_run_with_which_a_resumed_run_goes_on(
    replies, tmp_path
):
    def seed_of(rounds, t):
        model, report = known(rounds).finish(t, replies(CONFORMANCE))
        averages = OneMinusPKrum(1, p=0.5, seed=report.seed).averages(t)
        assert decode(model["w"]).tolist() == ([6] if averages else [10])
        return report.seed

    def run(**options):
        return Rounds(OneMinusPKrum(1, p=0.5), **options)

    path = tmp_path / "journal.jsonl"
    first = run(journal=path)
    seeds = {seed_of(first, t) for t in range(1, 9)}
    again = run(journal=path, rounds_done=8)
    seeds |= {seed_of(again, t) for t in range(9, 17)}
    assert len(seeds) == 1
    assert len(seeds | {seed_of(run(), 1) for _ in range(3)}) == 4
    assert None not in seeds
    assert Rounds(OneMinusPKrum(1, seed=5)).finish(1, [])[1].seed is None


# --- quarantine ---


MODEL = {"w": np.zeros(1)}


def refuse(rounds, clients, t=1):
    """Play a round in which the given clients send no model, and as many others do."""
    replies = [Reply(client, None, "no model") for client in clients]
    others = [Reply(100 + i, {"w": encode(MODEL["w"])}) for i in range(len(clients))]
    return rounds.finish(t, [*replies, *others])[1]


def test_nobody_is_left_out_by_default():
    rounds = Rounds(Krum(1))
    for t in range(1, 6):
        rounds.begin(MODEL, range(10))
        refuse(rounds, [3, 4], t)
    assert rounds.begin(MODEL, range(10)) == frozenset()
    assert rounds.quarantined == ()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_client_is_left_out_after_k_refusals_and_reported(replies, k):
    rounds = Rounds(Krum(1), quarantine=k)
    for t in range(1, k + 1):
        assert rounds.begin(MODEL, range(1, 10)) == frozenset()
        assert refuse(rounds, [3], t).quarantined == ()
    assert rounds.begin(MODEL, range(1, 10)) == {3}
    assert 3 not in rounds.asked
    _, report = rounds.finish(k + 1, replies(CONFORMANCE[:2]))
    assert report.quarantined == (3,)
    assert report.silent == (4, 5, 6, 7, 8, 9)


def test_only_refusals_count_not_silence_errors_or_doubts():
    rounds = Rounds(Krum(1), quarantine=1)
    good = {"w": npy(np.zeros(1))}
    for t in range(1, 4):
        rounds.begin(MODEL, range(1, 10))
        sent = [Reply(i, good, metrics={"num-examples": 10}) for i in range(1, 7)]
        sent.append(Reply(7, good, metrics={"num-examples": -1}))
        _, report = rounds.finish(t, sent, {8: "error"})
        assert list(report.doubted) == [7]
        assert report.silent == (9,)
    assert rounds.begin(MODEL, range(1, 10)) == frozenset()


@pytest.mark.parametrize(("sampled", "left"), [(20, 2), (7, 2), (6, 1), (5, 0), (3, 0)])
def test_enough_clients_for_the_rule_are_always_asked(sampled, left):
    rounds = Rounds(Krum(1), quarantine=1)  # 2f + 3 = 5
    refuse(rounds, [1, 2])
    assert len(rounds.begin(MODEL, range(1, sampled + 1))) == left
    assert len(rounds.asked) == sampled - left


def test_rules_without_a_bound_keep_one_client():
    rounds = Rounds(Medoid(), quarantine=1)
    refuse(rounds, [1, 2, 3])
    assert rounds.begin(MODEL, [1, 2, 3]) == {1, 2}
    assert rounds.asked == (3,)


def test_the_worst_are_left_out_first_and_ties_go_to_the_smallest_id():
    rounds = Rounds(Krum(1), quarantine=1)
    for t, bad in enumerate(([10, 9, 2], [10, 2], [10]), 1):
        refuse(rounds, bad, t)
    assert rounds.begin(MODEL, [10, 9, 2, 3, 4, 5]) == {10}
    assert rounds.begin(MODEL, [10, 9, 2, 3, 4, 5, 6]) == {2, 10}
    assert rounds.quarantined == (2, 10)
    tied = Rounds(Krum(1), quarantine=1)
    refuse(tied, [10, 9])
    assert tied.begin(MODEL, [10, 9, 2, 3, 4, 5]) == {9}


def test_only_clients_that_were_sampled_are_left_out():
    rounds = Rounds(Krum(1), quarantine=1)
    refuse(rounds, [1, 2])
    assert rounds.begin(MODEL, range(2, 12)) == {2}
    assert rounds.quarantined == (2,)


def test_a_client_that_sends_twice_has_one_refusal_for_it():
    rounds = Rounds(Krum(1), quarantine=2)
    good = {"w": npy(np.zeros(1))}
    rounds.finish(1, [Reply(1, good), Reply(1, good), Reply(2, good)])
    assert rounds.begin(MODEL, range(1, 12)) == frozenset()


def test_quarantine_goes_on_from_the_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    rounds = Rounds(Krum(1), quarantine=2, journal=path)
    refuse(rounds, [3, "4"], 1)
    refuse(rounds, [3, 5], 2)
    refuse(rounds, [5, "4"], 3)
    again = Rounds(Krum(1), quarantine=2, journal=path, rounds_done=2)
    assert again.begin(MODEL, [1, 2, 3, "4", 5, 6, 7, 8]) == {3}
    again = Rounds(Krum(1), quarantine=2, journal=path, rounds_done=2)
    refuse(again, [5, "4"], 3)
    assert again.begin(MODEL, [1, 2, 3, "4", 5, 6, 7, 8]) == {3, "4", 5}


def test_a_refused_client_in_quarantine_is_not_silent(replies):
    rounds = Rounds(Krum(1), quarantine=1)
    refuse(rounds, [6])
    known(rounds, range(1, 7))
    _, report = rounds.finish(2, replies(CONFORMANCE))
    assert report.silent == ()
    assert report.quarantined == (6,)
    assert report.byzantine == 1  # it sent nothing this time


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [
        ("quarantine", 0, 1), ("quarantine", -1, 1), ("quarantine", 1.5, 1),
        ("quarantine", True, 1), ("rounds_done", -1, 0), ("rounds_done", 1.0, 0),
        ("rounds_done", "3", 0),
    ],
)  # fmt: skip
def test_illegal_settings_of_quarantine_and_resume_are_named(option, value, least):
    with pytest.raises(ValueError, match=f"{option} is .*, expected an integer >= {least}"):
        Rounds(Krum(1), **{option: value})


def test_the_summary_tells_of_quarantine_and_journal(tmp_path):
    lines = Rounds(Krum(1), quarantine=3, journal=tmp_path / "j.jsonl").summary("Krum")
    assert any("Quarantine: after 3 refusals" in line for line in lines)
    assert any("j.jsonl" in line for line in lines)
    lines = Rounds(Krum(1)).summary("Krum")
    assert any("Quarantine: off" in line for line in lines)
    assert any("Journal: none" in line for line in lines)


# --- what clients say about themselves ---


def test_metrics_and_doubts_are_reported_and_touch_nothing():
    def reply(i, **metrics):
        return Reply(i, {"w": npy(np.array([float(i)]))}, metrics=metrics)

    sound = [reply(i, loss=0.1 * i, **{"num-examples": 10}) for i in range(1, 7)]
    liar = reply(7, loss=1e300, **{"num-examples": 10**15})
    refused = Reply(8, None, "no model", {"loss": 5.0, "num-examples": -3})
    model, report = Rounds(Krum(1)).finish(1, [refused, liar, *sound])
    assert report.metrics == {"loss": pytest.approx(0.1 * sum(range(2, 7)) / 5)}
    assert report.doubted == {7: "'num-examples' is 1000000000000000, the median is 10"}
    plain = [Reply(r.client, r.arrays) for r in [*sound, liar]]
    assert Rounds(Krum(0)).finish(1, plain)[0]["w"] == model["w"]


def test_a_client_that_answers_twice_is_not_heard_among_the_metrics():
    rounds = Rounds(Krum(1))
    replies = [Reply(i, None, metrics={"loss": 1.0}) for i in range(1, 7)]
    replies += [Reply(9, None, metrics={"loss": 0.5})] * 2
    for order in (replies, replies[::-1]):
        claimed = rounds.examine(order, [reply.client for reply in order])
        assert claimed.metrics == {"loss": 1.0}
        assert claimed.doubted == {9: "2 replies in one round, expected 1"}


def test_rounds_whose_metrics_lack_a_count_are_aggregated_all_the_same():
    replies = [Reply(i, {"w": npy(np.array([1.0]))}, metrics={"loss": 1.0}) for i in range(5)]
    _, report = Rounds(Krum(1)).finish(1, replies)
    assert report.metrics == {"loss": 1.0}
    assert report.doubted == {}


def test_a_metric_too_long_to_print_does_not_end_the_round():
    def reply(i, **metrics):
        return Reply(i, {"w": npy(np.array([float(i)]))}, metrics=metrics)

    sent = [*(reply(i, loss=1.0) for i in range(1, 7)), reply(7, x=10**5000)]
    _, report = Rounds(Krum(1)).finish(1, sent)
    assert report.stepped


def test_a_mean_of_the_largest_floats_does_not_end_the_run(tmp_path):
    top = np.finfo(np.float64).max.item()
    data = {"w": npy(np.zeros(1))}
    replies = [Reply(i, data, metrics={"loss": top}) for i in range(3)]
    with warnings.catch_warnings(action="ignore"):
        _, report = Rounds(Krum(0), journal=tmp_path / "j").finish(1, replies)
    assert read_journal(tmp_path / "j") == [report]


@pytest.mark.filterwarnings("ignore")
def test_a_guarantee_that_overflows_can_be_journaled(tmp_path):
    values = [[1.7e308] * 3] * 5 + [[1.0, 1.1, 0.9], [1.1, 0.9, 1.0]]
    rounds = Rounds(Krum(1), journal=tmp_path / "j")
    rounds.begin({"w": np.ones(3)}, range(7))
    rounds.finish(1, [Reply(i, {"w": npy(np.array(v))}) for i, v in enumerate(values)])
    assert len(read_journal(tmp_path / "j")) == 1


# --- what is not encoded anew ---


def as_sent(array, version=None):
    return {"w": npy(array, version), "k": npy(np.array([3]))}


@pytest.mark.parametrize("rule", [Krum(1), MultiKrum(1, m=1), Medoid()])
def test_the_one_model_that_is_chosen_goes_out_as_the_bytes_that_came_in(rule):
    sent = [as_sent(np.array([v, 1.0], np.float32)) for v in CONFORMANCE]
    rounds = known_model(w=np.zeros(2, np.float32), k=np.zeros(1, np.int64), rule=rule)
    model, report = rounds.finish(1, [Reply(i, s) for i, s in enumerate(sent)])
    assert model["w"] is sent[report.selected[0]]["w"]
    assert model["k"] == sent[0]["k"]  # a median, encoded anew


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_bytes_of_another_form_or_of_another_model_are_encoded_as_numpy_does(rate):
    arrays = [np.array([v, 1.0], np.float32) for v in CONFORMANCE]
    sent = [as_sent(a, version=(2, 0)) for a in arrays]
    rounds = known_model(
        w=np.zeros(2, np.float32), k=np.zeros(1, np.int64), rule=Krum(1), rate=rate
    )
    model, report = rounds.finish(1, [Reply(i, s) for i, s in enumerate(sent)])
    assert model["w"] == npy(arrays[report.selected[0]] * np.float32(rate))


def test_a_reply_in_a_wider_type_is_encoded_in_the_models():
    sent = [as_sent(np.array([v, 1.0])) for v in CONFORMANCE]
    rounds = known_model(w=np.zeros(2, np.float32), k=np.zeros(1, np.int64), rule=Krum(1))
    model, _ = rounds.finish(1, [Reply(i, s) for i, s in enumerate(sent)])
    assert decode(model["w"]).dtype == np.float32


def known_model(rule, rate=1.0, **model):
    rounds = Rounds(rule, server_learning_rate=rate)
    rounds.begin(model, range(5))
    return rounds
