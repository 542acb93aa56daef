"""The study of what a quorum costs: whom it takes, and how far that is from all honest nodes."""

import numpy as np
import pytest

from flwr_krum.boundary.quorum import Quorum
from simulations.studies.waiting import (
    ATTACKS,
    FAST,
    SLOW,
    F,
    N,
    cost,
    draw,
    markdown,
    study,
    taken_by,
)


def test_a_round_of_the_study_has_fast_liars_fast_honest_and_slow_honest_nodes():
    drawn = draw(np.random.default_rng(0))
    assert drawn.honest.shape[0] == FAST + SLOW
    assert (drawn.seconds[:F] == 0.0).all()
    assert drawn.seconds[F : F + FAST].max() < drawn.seconds[F + FAST :].min()
    apart = drawn.honest[FAST:].mean(axis=0) - drawn.honest[:FAST].mean(axis=0)
    assert apart.mean() == pytest.approx(1.0, abs=0.2)


def test_the_taken_are_those_who_came_before_the_close():
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 3.4, 9.0])
    taken, close = taken_by(Quorum(4, grace=0.25, wait=0.0), seconds)
    assert (taken.tolist(), close) == ([0, 1, 2, 3, 4], 3.5)
    assert taken_by(Quorum(6, grace=0.5, wait=0.0), seconds)[1] == 9.0


def test_the_smaller_the_quorum_the_farther_from_the_honest_mean_and_with_all_there_is_no_cost():
    far = [
        one.distance["far liars"] for one in study(20, quorums=(11, 13, 15, 17, 20), graces=(0.0,))
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] == pytest.approx(0.0, abs=1e-12)
    # With the fast alone the aggregate is half-way between both kinds of data: 0.5, and noise.
    assert far[0] == pytest.approx(np.hypot(0.5, 0.8 * np.sqrt(1 / 7 - 1 / 16)), abs=0.05)


def test_a_grace_takes_in_more_and_costs_less():
    rounds = [draw(np.random.default_rng(i)) for i in range(10)]
    strict, gracious = (cost(Quorum(13, grace, 0.0), rounds) for grace in (0.0, 0.5))
    assert strict.taken == 13.0 < gracious.taken
    assert strict.distance["far liars"] > gracious.distance["far liars"]


def test_the_table_has_a_row_for_each_quorum_and_names_its_command():
    found = study(2, quorums=(11, N), graces=(0.0,))
    block = markdown(found, 2, "the command")
    lines = block.splitlines()
    assert lines[0] == "Made by `the command`: 2 rounds."
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| 11", "| 20"]
    assert all(name in lines[2] for name in ATTACKS)
    assert all(line.count("|") == lines[2].count("|") for line in lines[3:])
