"""The search for the inputs that bring a rule farthest from the mean of the honest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flwr_krum.rules import Krum, Median, MultiKrum
from simulations.studies.evolution import climb
from simulations.studies.plain_geometry import aggregate_of
from simulations.studies.worst_inputs import (
    Blueprint,
    directed,
    draw_blueprint,
    draw_parameters,
    families,
)
from simulations.studies.worst_kappa import kappa_of, search, unbounded
from simulations.studies.worst_records import (
    ALL,
    SEARCHED,
    Record,
    examine_all,
    in_force,
    keep,
    kept_in,
)
from tests.simulations.every_honest_set import by_every_set


def test_kappa_of_an_input_is_that_of_a_look_at_every_set():
    rng = np.random.default_rng(0)
    for _ in range(40):
        n, d = int(rng.integers(3, 9)), int(rng.integers(1, 4))
        f = int(rng.integers(1, (n - 1) // 2 + 1))
        rows, A = rng.standard_normal((n, d)), rng.standard_normal(d)
        assert kappa_of(rows, A, f) == pytest.approx(by_every_set(rows, A, f), rel=1e-9)


def test_kappa_is_infinite_where_equal_honest_rows_are_missed_and_zero_where_they_are_met():
    rows = np.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
    assert kappa_of(rows, np.array([0.1]), 1) == math.inf
    assert kappa_of(rows * 0.0, np.array([0.0]), 1) == 0.0
    assert kappa_of(rows, np.array([0.0]), 1) == pytest.approx(1 / 3)  # the floor, and the proof


@pytest.mark.parametrize("text", [text for text in SEARCHED if text != "bulyan"])
def test_the_plain_geometry_makes_what_the_rule_makes(text):
    rule, _ = in_force(text, 9, 2)
    rng = np.random.default_rng(1)
    for d in (1, 6):
        rows = np.vstack([5.0 + rng.standard_normal((2, d)), rng.standard_normal((7, d))])
        assert aggregate_of(rule, rows) == pytest.approx(rule(rows).vector, rel=1e-6, abs=1e-6)


def test_a_search_finds_the_worst_input_of_the_median_and_of_averaging_the_middle():
    # Of four honest, two to each side: the liar moves the median from the middle to one of them.
    found = search(Median(f=1), 5, 1, budget=400, seed=0)
    assert found.kappa == pytest.approx(1.0, rel=1e-4)
    # With one liar of three the floor is 1, and a median cannot be brought beyond it.
    assert search(Median(f=1), 3, 1, budget=300, seed=1).kappa == pytest.approx(1.0, rel=1e-4)


def test_the_same_seed_finds_the_same_and_a_larger_budget_more():
    few, again = (search(MultiKrum(f=2), 8, 2, budget=150, seed=3) for _ in range(2))
    assert few.kappa == again.kappa
    assert few.rows.tolist() == again.rows.tolist()
    assert search(MultiKrum(f=2), 8, 2, budget=600, seed=3).kappa > few.kappa


def test_what_a_search_finds_is_what_the_rule_itself_makes_of_the_input():
    rule = Krum(f=2)
    found = search(rule, 8, 2, budget=300, seed=0)
    assert by_every_set(found.rows, rule(found.rows).vector, 2) == pytest.approx(found.kappa)
    assert found.rows[2:].var(axis=0).sum() == pytest.approx(1.0, rel=0.02)  # the honest spread


@pytest.mark.parametrize(
    ("text", "is_unbounded"),
    [
        *((text, True) for text in ("average", "1-p-krum", "cge", "dnc", "norm-bounding(C=1)")),
        *((text, True) for text in ("centered-clipping", "arc | average")),
        *((text, False) for text in ("krum", "median", "caf", "nnm | krum", "arc | krum")),
    ],
)
def test_a_rule_is_unbounded_where_a_family_of_inputs_says_so(text, is_unbounded):
    rule, f = in_force(text, 9, 2)
    assert (unbounded(rule, 9, f) is not None) == is_unbounded


def test_every_family_has_honest_rows_of_spread_one_whatever_the_distance():
    for n, f in ((5, 1), (9, 2), (20, 6)):
        for family in families(f).values():
            rows = family(n, f, 100.0)
            assert rows.shape[0] == n
            assert rows[f:].var(axis=0).sum() == pytest.approx(1.0)
            assert np.abs(rows).max() >= 99.0


def test_a_blueprint_makes_simplices_in_directions_of_their_own():
    blueprint = Blueprint((2,), (3, 1), 2)
    centres = np.array([[0.0, 1.0, 0.5], [2.0, 0.0, 3.0], [1.0, 1.0, 9.0]])
    rows = blueprint.rows(centres.ravel())
    assert len(rows) == 6
    assert rows[:2].mean(axis=0)[:2].tolist() == [0.0, 1.0]
    apart = np.linalg.norm(rows[:, None] - rows, axis=2)
    assert apart[2, 3] == pytest.approx(apart[3, 4])
    assert apart[2, 3] == pytest.approx(3.0 * math.sqrt(3.0))  # the side, of that radius
    offsets = rows[:, 2:]
    assert np.abs(offsets[:2] @ offsets[2:].T).max() < 1e-12
    assert offsets[5].tolist() == [0.0] * offsets.shape[1]  # a group of one is its centre


def test_blueprints_are_drawn_of_the_right_numbers_and_directed_ones_too():
    rng = np.random.default_rng(2)
    drawn = [draw_blueprint(11, 3, rng) for _ in range(50)]
    drawn = [(blueprint, draw_parameters(blueprint, rng)) for blueprint in drawn]
    for blueprint, parameters in [*drawn, *directed(11, 3)]:
        assert (sum(blueprint.liars), sum(blueprint.honest)) == (3, 8)
        assert blueprint.rows(parameters).shape[0] == 11


def test_the_climb_finds_the_top_of_a_ridge_that_ends_at_an_edge():
    def value(x):
        return x[0] - 100.0 * (x[1] - x[0]) ** 2 if x[0] <= 2.0 else -math.inf

    best, found = climb(value, np.zeros(3), 0.5, 3000, np.random.default_rng(0))
    assert found == pytest.approx(2.0, abs=1e-3)
    assert value(best) == found


def test_a_climb_asks_for_no_more_values_than_it_may():
    asked = []
    climb(lambda x: asked.append(x) or 0.0, np.zeros(4), 1.0, 30, np.random.default_rng(0))
    assert 20 < len(asked) <= 30


def test_what_cannot_be_searched_is_named_or_refused():
    said = []
    found = examine_all(["median; average"], 5, 1, 100, [0], said.append)
    assert [str(record) for record in found] == [f"{found[0].worst.kappa:.4g}", "unbounded"]
    assert said == [f"{record.rule}: {record}" for record in found]
    for text, why in (
        ("fltrust", "asks the server for"),
        ("bulyan", "bears no liar of 5 clients"),
        ("smea(most_sets=2)", "would try 5 sets"),
        ("median(oops=1)", "oops"),
    ):
        with pytest.raises(ValueError, match=why):
            examine_all([text], 5, 1, 100, [0], said.append)


def test_a_rule_that_bears_fewer_liars_is_searched_with_those():
    rule, f = in_force("bulyan", 20, 6)
    assert (rule.f, f) == (4, 4)


def test_records_come_back_from_their_file_and_new_ones_take_the_place_of_old_ones(tmp_path):
    old = examine_all(["median; average"], 5, 1, 100, [0, 1], lambda _: None)
    keep(old, 5, 1, tmp_path)
    new = examine_all(["median"], 5, 1, 200, [0], lambda _: None)
    keep(new, 5, 1, tmp_path)
    average, median = kept_in(tmp_path / "5-1.json")
    assert average == old[1]
    assert isinstance(median, Record)
    assert median.budget == 200
    assert median.worst.rows.tolist() == new[0].worst.rows.tolist()
    assert kept_in(tmp_path / "7-2.json") == []


def test_all_is_every_rule_that_can_be_searched():
    assert ALL not in SEARCHED
    assert len(SEARCHED) == len(set(SEARCHED))
    for text in SEARCHED:
        assert in_force(text, 11, 2)
