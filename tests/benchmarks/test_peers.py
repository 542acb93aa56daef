"""All contestants do the same job."""

import numpy as np
import pytest

from benchmarks.data import draw
from benchmarks.peers import (
    COORDINATE_RULES,
    DISTANCE_RULES,
    LEGACY,
    MEASURED,
    MESSAGE,
    NUMBA,
    NUMPY,
    OURS,
    RULES,
    THEIRS,
    Contestant,
    agree,
    answer,
    contestants,
    device_of,
    disagreements,
)
from flwr_krum import rules
from flwr_krum.rules import Krum

PRESENT, ABSENT = contestants()


def peer(name):
    if name in ABSENT:
        pytest.skip(f"{name}: {ABSENT[name]}")
    return PRESENT[name]


def krum_choice(case):
    """Return Krum's choice by the definition, in float64 from differences."""
    V = np.array(case.rows, dtype=np.float64)
    squared = ((V[:, None] - V[None, :]) ** 2).sum(axis=2)
    scores = np.sort(squared, axis=1)[:, 1 : case.n - case.f - 1].sum(axis=1)
    return int(np.argmin(scores))


def test_every_measured_rule_stands_beside_its_like():
    assert {*RULES, *COORDINATE_RULES} == set(MEASURED) <= set(rules.RULES)
    assert {"krum", "multi-krum", "medoid"} <= set(DISTANCE_RULES)
    assert "average" in set(RULES) - set(DISTANCE_RULES)
    assert {"median", "trimmed-mean", "meamed"} <= set(COORDINATE_RULES)
    assert RULES[0] == "krum"
    for name in OURS:
        assert set(peer(name).rules) == {*RULES, *COORDINATE_RULES}


def test_our_rules_bear_as_many_as_they_can_where_f_are_too_many():
    case = draw(10, 500, f=2, parameter=0.0)
    few = PRESENT[NUMPY].rules["krum"](case, 8)
    assert few.choice.selected == Krum(3)(np.array(case.rows)).selected


def test_everybody_is_there_or_says_why_not():
    assert set(PRESENT) | set(ABSENT) == {*OURS, *THEIRS}
    assert not set(PRESENT) & set(ABSENT)
    assert {NUMPY, LEGACY, MESSAGE} <= set(PRESENT)
    assert all(ABSENT.values())


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_krum_picks_the_same_honest_client_where_all_definitions_agree(name):
    contestant = peer(name)
    for n, f in ((10, 2), (30, 6)):
        case = draw(n, 500, f=f, parameter=0.0)
        chosen = krum_choice(case)
        assert chosen < n - f
        expected = case.sample(case.rows[chosen])
        np.testing.assert_array_equal(answer(contestant, "krum", case), expected)


MEANS = ("multi-krum", "average", "median", "trimmed-mean")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name in (*OURS, *THEIRS)
        for rule in MEANS
        if name in ABSENT or rule in PRESENT[name].rules
    ],
)
def test_means_and_medians_are_those_of_numpy(name, rule):
    contestant = peer(name)
    case = draw(11, 500, f=2, parameter=0.0)
    V = np.array(case.rows, dtype=np.float64)
    expected = {
        "multi-krum": V[:9].mean(axis=0),
        "average": V.mean(axis=0),
        "median": np.median(V, axis=0),
        "trimmed-mean": np.sort(V, axis=0)[2:-2].mean(axis=0),
    }[rule]
    assert np.allclose(answer(contestant, rule, case), case.sample(expected), rtol=1e-4, atol=1e-5)


def test_nobody_disagrees_today():
    assert disagreements(PRESENT) == []


def test_who_does_another_job_is_found_out():
    ours = PRESENT[NUMPY]
    first = {rule: lambda case, f: [case.rows[0]] for rule in RULES}
    impostor = Contestant("impostor", "0", "", first, ours.prepare, lambda rows: rows[0], 1.0)
    found = disagreements({NUMPY: ours, "impostor": impostor})
    assert "impostor disagrees on krum at n=12" in found
    assert len(found) == 2 * len(RULES)


def test_results_agree_up_to_float32_rounding():
    a = np.array([1.0, -2.0, 1e-3])
    assert agree(a, a.astype(np.float32).astype(float))
    assert not agree(a, a * 1.001)


def test_a_path_that_cannot_be_selected_is_absent_with_a_reason(monkeypatch):
    assert device_of(NUMPY) == "cpu:numpy"
    monkeypatch.setattr("benchmarks.peers.numba_is_installed", lambda: False)
    present, absent = contestants()
    assert NUMBA not in present
    assert absent[NUMBA] == "numba is not installed (extra `fast`)"
