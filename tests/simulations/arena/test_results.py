from dataclasses import replace
from pathlib import Path

import pytest

from simulations.arena.plan import Bout
from simulations.arena.results import Result, Score, Standing, score_of, standings_of
from simulations.run.history import HistoryWriter, RoundRecord

SCORE = Score(0, 0.5, 0.5, 3, 0.0, 0, None, "a")


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
