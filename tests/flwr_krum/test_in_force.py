"""What a round reckons with: neither a default, nor an accident, nor a liar disarms the rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_krum.in_force import f_in_force, is_exceeded
from flwr_krum.journal import read_journal
from flwr_krum.round import InfeasibleRoundError
from flwr_krum.rules import Average, Krum, Median, MultiKrum, OneMinusPKrum
from tests.flwr_krum import references

GLOBAL = [np.zeros(3, np.float32)]


def honest(value=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [(value + 1e-3 * rng.standard_normal(3)).astype(np.float32)]


def lie(value):
    return [np.full(3, value, np.float32)]


def play(federation, strategy, replies, asked=None, t=1):
    federation.configure(strategy, GLOBAL, replies if asked is None else asked, t)
    model, _ = federation.aggregate(strategy, replies, t)
    return model, strategy.reports[-1]


@given(
    declared=st.integers(0, 30), accepted=st.integers(0, 60), refused=st.integers(0, 40),
    asked=st.integers(0, 100),
)  # fmt: skip
def test_f_is_lowered_only_to_what_is_legal_and_by_no_more_than_the_refused(
    declared, accepted, refused, asked
):
    f, basis = f_in_force(Krum(declared), accepted, refused, asked)
    assert f == references.f_in_force(declared, accepted, refused)
    assert max(0, declared - refused) <= f <= declared
    if f < declared:
        assert accepted >= (2 * f + 3 if f else 1)
        assert basis == f"declared {declared}, lowered: {refused} replies were refused"
    if refused > declared:
        assert f == declared


@given(replies=st.integers(1, 60), silent=st.integers(0, 60))
def test_left_out_f_is_what_the_replies_bear_and_one_where_the_asked_would(replies, silent):
    f, basis = f_in_force(Krum(), replies, 0, replies + silent)
    borne = max(0, (replies - 3) // 2)
    least = 1 if replies + silent >= 5 else 0
    assert f == max(borne, least)
    assert (f"among {replies} replies" in basis) == (borne >= least)


@pytest.mark.parametrize(("bad", "f", "needed"), [(0, 2, 7), (2, 1, 5), (3, 2, 7)])
@pytest.mark.parametrize("fate", ["skip", "degrade"])
def test_a_report_says_how_many_replies_its_rule_needs_at_the_f_in_force(
    federation, fate, bad, f, needed
):
    strategy = federation.strategy("Krum", 2, on_infeasible=fate)
    replies = {i: lie(math.nan) if i < bad else honest(seed=i) for i in range(8)}
    _, report = play(federation, strategy, replies)
    assert (report.byzantine, report.needed, report.slack) == (f, needed, 8 - bad - needed)


def test_a_changed_import_alone_protects(federation):
    strategy = federation.strategy("MultiKrum", fraction_evaluate=0.0)
    replies = {i: honest(0.99, i) for i in range(1, 8)} | {8: lie(1e4), 9: lie(1e4)}
    model, report = play(federation, strategy, replies)
    assert np.abs(model[0] - 0.99).max() < 0.01
    assert report.byzantine == 3
    assert not {federation.name(8), federation.name(9)} & set(report.selected)


def test_f_0_is_obeyed_and_said_once_in_the_summary(federation, caplog):
    strategy = federation.strategy("MultiKrum", 0)
    replies = {i: honest(0.99, i) for i in range(1, 8)} | {8: lie(1e4), 9: lie(1e4)}
    model, report = play(federation, strategy, replies)
    assert report.byzantine == 0
    assert model[0].max() > 2000
    (line,) = [line for line in strategy._rounds.summary("x") if "Rule:" in line]
    assert "tolerates no Byzantine client: f=0 was declared" in line
    (line,) = [line for line in federation.strategy("MultiKrum")._rounds.summary("x")
               if "Rule:" in line]  # fmt: skip
    assert "tolerates no" not in line


@pytest.mark.parametrize("seed", range(50))
def test_an_honest_nan_does_not_let_a_sixth_liar_in(federation, seed):
    strategy = federation.strategy("MultiKrum", 6)
    replies = {i: honest(1.0, 100 * seed + i) for i in range(1, 14)} | {14: lie(np.nan)}
    replies |= {i: lie(-1e6) for i in range(15, 21)}
    model, report = play(federation, strategy, replies)
    assert report.byzantine == 6
    assert np.abs(model[0] - 1.0).max() < 0.01
    assert not {federation.name(i) for i in range(14, 21)} & set(report.selected)


def test_more_refusals_than_liars_leave_f_whole_and_the_model_where_it_is(federation):
    strategy = federation.strategy("MultiKrum", 1)
    replies = {i: honest(1.0, i) for i in range(1, 4)} | {4: lie(1e6)}
    replies |= {i: lie(np.nan) for i in range(5, 8)}
    model, report = play(federation, strategy, replies)
    assert model is None
    assert report.byzantine == 1
    assert report.basis == "declared; 3 replies were refused, honest ones among them"
    assert "needs 2f + 2 < n, got n=4, f=1" in report.note


def test_six_liars_beside_eight_honest_nan_are_never_averaged(federation):
    replies = {i: honest(1.0, i) for i in range(1, 7)}
    replies |= {i: lie(np.nan) for i in range(7, 15)} | {i: lie(1e30) for i in range(15, 21)}
    strategy = federation.strategy("MultiKrum", 6)
    model, report = play(federation, strategy, replies)
    assert model is None
    assert report.byzantine == 6
    assert "got n=12, f=6" in report.note
    strategy = federation.strategy("MultiKrum", 6, on_infeasible="raise")
    with pytest.raises(InfeasibleRoundError, match="got n=12, f=6"):
        play(federation, strategy, replies)


def test_refused_replies_of_clients_that_were_not_asked_count_for_nothing(federation):
    strategy = federation.strategy("MultiKrum", 2)
    replies = {i: honest(1.0, i) for i in range(1, 6)} | {6: lie(1e6)}
    strangers = {i: lie(np.nan) for i in (90, 91)}
    model, report = play(federation, strategy, replies | strangers, asked=range(1, 7))
    assert model is None
    assert report.byzantine == 2  # two refusals of those asked would have made it 1
    assert "got n=6, f=2" in report.note


def test_silence_leaves_a_round_to_nobody(federation):
    strategy = federation.strategy("MultiKrum")
    model, report = play(federation, strategy, {1: lie(1e6), 2: lie(1e6)}, asked=range(1, 21))
    assert model is None
    assert report.byzantine == 1
    assert report.basis == "at least 1 where 20 clients are asked"


def test_two_clients_of_which_none_lies_train(federation):
    for f in (0, None):
        model, report = play(
            federation, federation.strategy("MultiKrum", f), {1: lie(1.0), 2: lie(3.0)}
        )
        assert model[0].tolist() == [2.0, 2.0, 2.0]
        assert report.byzantine == 0


# --- steps that no rule bounds ---


@pytest.mark.parametrize("rule", [Average(), OneMinusPKrum(1, p=1.0, seed=0)])
def test_an_averaged_lie_is_not_taken_and_the_report_says_by_how_much(federation, rule):
    strategy = federation.custom(rule)
    replies = {i: honest(1.0, i) for i in range(1, 7)} | {7: lie(3e38)}
    model, report = play(federation, strategy, replies)
    assert model is None
    assert not report.stepped
    assert "as long as the median update, more than largest_step=10" in report.note
    model, report = play(federation, strategy, {i: honest(1.0, i) for i in range(1, 8)}, t=2)
    assert report.stepped


def test_the_limit_of_a_step_is_the_operators(federation):
    replies = {i: honest(1.0, i) for i in range(1, 7)} | {7: lie(50.0)}  # the mean is 8 lengths
    for limit, stepped in ((math.inf, True), (9.0, True), (7.0, False), (None, True)):
        _, report = play(federation, federation.custom(Average(), largest_step=limit), replies)
        assert report.stepped == stepped
    for rule, limit in ((Median(), None), (MultiKrum(1), None)):
        _, report = play(federation, federation.custom(rule, largest_step=limit), replies)
        assert report.stepped
    for limit in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"largest_step must be a number > 0, got {limit}"):
            federation.custom(Average(), largest_step=limit)


# --- seeds that no client knows ---


def test_the_seed_of_1_p_krum_is_drawn_kept_and_gone_on_with(federation, tmp_path):
    first, second = (federation.strategy("OneMinusPKrum", 1) for _ in range(2))
    assert first._rounds.rule.seed != second._rounds.rule.seed
    path = tmp_path / "journal.jsonl"
    replies = {i: honest(1.0, i) for i in range(1, 8)}
    strategy = federation.strategy("OneMinusPKrum", 1, journal=path)
    play(federation, strategy, replies)
    seed = strategy._rounds.rule.seed
    assert read_journal(path)[0].seed == seed
    del strategy
    resumed = federation.strategy("OneMinusPKrum", 1, journal=path, rounds_done=1)
    assert resumed._rounds.rule.seed == seed
    given = federation.strategy("OneMinusPKrum", 1, seed=5)
    assert given._rounds.rule.seed == 5
    play(federation, given, replies)
    assert given.reports[-1].seed is None


def test_more_refusals_than_f_are_told_as_such_also_where_somebody_was_late():
    for late in (0, 1, 9):
        f, basis = f_in_force(MultiKrum(2), 10, 6, 20, late)
        assert f == 2
        assert is_exceeded(basis)
    assert not is_exceeded(f_in_force(MultiKrum(2), 10, 2, 20, late=1).basis)
