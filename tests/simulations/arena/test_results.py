from dataclasses import replace
from pathlib import Path

import pytest

from simulations.arena import results
from simulations.arena.plan import Bout
from simulations.arena.results import Behind, Result, Score, Standing, score_of, standings_of
from simulations.run.history import HistoryWriter, RoundRecord
from simulations.run.intervals import Outcome

SCORE = Score(0, 0.5, 0.5, 3, 0.0, 0, None, None, None, "a")


def result(attack, *lasts, rule="krum"):
    scores = tuple(replace(SCORE, seed=seed, last=last) for seed, last in enumerate(lasts))
    return Result(rule, attack, scores)


@pytest.fixture
def score(config):
    """The score of a run of n = 4, f = 1, given accuracy and loss of every round."""

    def score(*rounds, counted=None, **changes):
        run = config(num_clients=4, f=1, rule="average", attack="alie", **changes)
        records = [
            RoundRecord(t, accuracy, loss, selected=(3, 0), stepped=t % 2 == 1)
            for t, (accuracy, loss) in enumerate(rounds)
        ]
        HistoryWriter(Path(run.run_dir), run.to_config(), records)
        return score_of(replace(run, num_server_rounds=counted or len(rounds) - 1))

    return score


def test_the_labels_of_a_destroyed_model_are_neither_last_nor_best(score):
    found = score((0.4, 1.0), (0.6, 0.9), (0.7, None), (0.8, float("nan")))
    assert (found.last, found.best, found.best_round) == (None, 0.6, 1)


def test_a_longer_run_counts_up_to_the_rounds_that_are_asked_for(score):
    rounds = [(0.4, 1.0), (0.5, 0.9), (0.6, 0.8), (0.7, 0.7), (0.9, 0.6)]
    found = score(*rounds, counted=2)
    assert (found.last, found.best, found.skipped, found.byzantine) == (0.6, 0.6, 1, 0.5)
    assert score(*rounds).skipped == 2


def test_no_attack_is_no_worst_case_unless_it_is_all_there_is():
    peace, war = result("none", 0.5), result("alie", 0.7)
    assert Standing("krum", (peace, war)).worst is war
    assert Standing("krum", (peace,)).worst is peace


def test_a_seed_that_is_destroyed_is_worse_than_any_accuracy_and_two_are_worse_than_one():
    low, one, two = result("a", 0.1, 0.1), result("b", 0.9, None), result("c", None, None)
    assert Standing("krum", (low, one)).worst is one
    assert Standing("krum", (one, two, low)).worst is two
    assert one.last is one.last_interval is None


def test_a_rule_that_cannot_run_is_below_one_that_is_destroyed():
    destroyed = Standing("average", (result("alie", None),))
    cannot = standings_of([Bout("bulyan", "alie", (), "too few")])[0]
    assert cannot.worst.order < destroyed.worst.order


@pytest.fixture
def held(monkeypatch):
    """The standings of rules by the last accuracies of their seeds, under each of two attacks."""

    def held(**lasts):
        monkeypatch.setattr(results, "score_of", lambda score: score)
        return {
            standing.rule: standing
            for standing in standings_of(
                Bout(rule, attack, result(attack, *values).scores)
                for rule, columns in lasts.items()
                for attack, values in zip(("alie", "ipm"), columns, strict=True)
            )
        }

    return held


def test_how_far_a_rule_is_behind_the_best_of_an_attack_is_told_seed_by_seed(held):
    # Apart the seeds spread by .2; pair by pair the difference is .1 within .01.
    found = held(a=[(0.5, 0.7, 0.9), (0.1, 0.1, 0.1)], b=[(0.41, 0.6, 0.79), (0.3, 0.3, 0.3)])
    behind = found["b"].results[0].behind
    assert (behind.best, found["a"].results[0].behind) == ("a", None)
    assert behind.values == pytest.approx((0.09, 0.1, 0.11))
    # Student's t of 95 % at 2 degrees of freedom, over the root of 3, times the deviation .01.
    reach = 4.302653 / 3**0.5 * 0.01
    assert (behind.interval.low, behind.interval.high) == pytest.approx((0.1 - reach, 0.1 + reach))
    assert behind.outcome == Outcome.HOLDS
    assert found["a"].results[1].behind.best == "b"


def test_worst_cases_are_compared_with_the_best_worst_case(held):
    found = held(a=[(0.5, 0.7), (0.1, 0.2)], b=[(0.4, 0.3), (0.6, 0.9)])
    assert found["b"].behind is None
    assert found["a"].behind.best == "b"
    assert found["a"].behind.values == pytest.approx((0.3, 0.1))


def test_a_difference_whose_interval_reaches_0_cannot_be_told():
    assert Behind("a", (0.1, -0.1, 0.2)).outcome == Outcome.UNKNOWN
    assert Behind("a", (0.0, 0.0, 0.0)).outcome != Outcome.HOLDS
    assert Behind("a", (0.1, None)).interval is None


def test_what_the_attack_chose_is_the_median_of_the_rounds_that_have_it(config):
    run = config(num_clients=4, f=1, rule="average", attack="alie", evaluate_every=1)
    factors = (None, 3.0, None, 9.0, 4.0)
    records = [RoundRecord(t, 0.5, 1.0, factor=factor) for t, factor in enumerate(factors)]
    HistoryWriter(Path(run.run_dir), run.to_config(), records)
    assert score_of(replace(run, num_server_rounds=4)).factor == 4.0
    assert score_of(replace(run, num_server_rounds=1)).factor == 3.0
