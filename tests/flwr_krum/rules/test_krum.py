from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flwr_krum.rules import (
    Average,
    ClientUpdates,
    Krum,
    MultiKrum,
    OneMinusPKrum,
    inverse_square_root,
)
from tests.flwr_krum import references
from tests.flwr_krum.hard_inputs import (
    DRAW_KINDS,
    HARD,
    many_hard_draws,
    share_of,
    updates_of,
)

CONFORMANCE = np.array(references.CONFORMANCE)[:, np.newaxis]


@st.composite
def inputs(draw):
    """Return n vectors of whole numbers, whose scores float64 holds exactly, and a legal f."""
    n = draw(st.integers(5, 14))
    values = st.integers(-20, 20).map(float)
    V = draw(arrays(np.float64, (n, draw(st.integers(1, 4))), elements=values))
    return V, draw(st.integers(0, (n - 3) // 2))


# --- the paper's rule ---


def test_the_conformance_vector_has_the_scores_of_the_paper_and_krum_picks_10():
    result = Krum(f=1)(CONFORMANCE)
    assert result.scores.tolist() == [45, 18, 25, 17, 26]
    assert result.vector.tolist() == [10]
    assert result.selected == (3,)
    assert result.weights.tolist() == [0, 0, 0, 1, 0]


def test_multi_krum_orders_the_conformance_vector_best_first_and_averages_n_minus_f():
    assert MultiKrum(f=1, m=5)(CONFORMANCE).selected == (3, 1, 2, 4, 0)
    result = MultiKrum(f=1)(CONFORMANCE)
    assert result.selected == (3, 1, 2, 4)
    assert result.vector.tolist() == [(10 + 3 + 6 + 11) / 4]
    assert result.weights.tolist() == [0, 0.25, 0.25, 0.25, 0.25]


def test_an_integer_array_is_aggregated_as_numbers():
    result = Krum(f=1)(CONFORMANCE.astype(np.int32))
    assert result.vector.tolist() == [10]
    assert result.vector.dtype == np.float64


@pytest.mark.usefixtures("exact_once")
@pytest.mark.parametrize("kind", DRAW_KINDS)
def test_a_thousand_random_inputs_agree_with_a_brute_force_loop(kind, device):
    for draw in share_of(device, kind):
        updates = updates_of(draw.V, device)
        n, f = len(draw.V), draw.f
        scores = draw.krum_scores
        order = references.best(scores, n)
        krum, multi = Krum(f)(updates), MultiKrum(f)(updates)
        assert krum.selected == order[:1], (n, f)
        np.testing.assert_array_equal(krum.vector, draw.V[order[0]])
        np.testing.assert_allclose(krum.scores, scores, rtol=1e-12, atol=0)
        assert multi.selected == order[: n - f], (n, f)
        mean = [math.fsum(column) / (n - f) for column in draw.V[list(order[: n - f])].T]
        np.testing.assert_allclose(multi.vector, mean, rtol=1e-13, atol=1e-13)
        assert MultiKrum(f, m=n)(updates).selected == order, (n, f)


def check_draw(draw, updates):
    n, f = len(draw.V), draw.f
    scores = draw.krum_scores
    order = references.best(scores, n)
    assert Krum(f)(updates).selected == order[:1], (n, f)
    for m in (2, (n - f) // 2, n - f):
        assert MultiKrum(f, m=m)(updates).selected == order[:m], (n, f, m)


@pytest.mark.usefixtures("exact_once")
def test_where_rounding_decides_the_choice_is_the_one_of_exact_arithmetic(hard_draws, device):
    for draw in hard_draws:
        check_draw(draw, updates_of(draw.V, device))


@pytest.mark.slow
@pytest.mark.parametrize("kind", HARD)
def test_ten_thousand_hard_draws_are_decided_as_exact_arithmetic_decides_them(kind):
    for draw in many_hard_draws(kind):
        for device in ("cpu:numpy", "cpu:numba"):
            check_draw(draw, updates_of(draw.V, device))


def test_the_choice_is_exact_on_tenths_where_a_float64_loop_errs():
    rng = np.random.default_rng(1)
    loop_erred = 0
    for _ in range(100):
        V = 0.1 * rng.integers(0, 6, (9, 2))
        scores = references.krum_scores(references.exact_distances(V), 5)
        exact = references.best(scores, 9)
        loop = references.best(references.krum_scores(references.squared_distances(V), 5), 9)
        loop_erred += loop != exact
        assert MultiKrum(f=2, m=9)(V).selected == exact
    assert loop_erred > 8


def test_tiny_updates_of_a_large_model_are_ranked_exactly_with_and_without_the_model():
    rng = np.random.default_rng(2)
    w = rng.standard_normal(50)
    w *= 1e3 / np.linalg.norm(w)
    for _ in range(20):
        V = w + 1e-5 * rng.standard_normal((10, 50))
        order = references.best(references.krum_scores(references.exact_distances(V), 6), 10)
        models = [[row] for row in V]
        for base in (None, [w]):
            updates = ClientUpdates.from_layers(models, base)
            assert MultiKrum(f=2, m=10)(updates).selected == order


def test_coordinates_whose_squares_underflow_beside_others_count():
    z = [-3.0, 3.0, 1.0, 0.5, -9.0, 0.6, 0.7]
    V = np.array([[1.0, 1e-200 * x] for x in z])
    order = references.best(references.krum_scores(references.exact_distances(V), 4), 7)
    assert MultiKrum(1, m=7)(V).selected == order


def test_a_huge_coordinate_of_the_global_model_does_not_blind_the_distances():
    V = np.random.default_rng(6).standard_normal((7, 3))
    base = [np.array([0.0, 1e300, 1.0])]
    order = references.best(references.krum_scores(references.exact_distances(V), 4), 7)
    updates = ClientUpdates.from_layers([[row] for row in V], base)
    assert MultiKrum(1, m=7)(updates).selected == order


@pytest.mark.filterwarnings("error")
def test_scores_that_overflow_do_not_warn():
    V = np.arange(12.0).reshape(-1, 1)
    V[0] = 1.3e154  # one hostile float64 client
    Krum(3)(V)


# --- ties ---


@pytest.mark.parametrize("n", [18, 26, 40, 60])
def test_ties_go_to_the_smallest_index_where_sorts_are_unstable(n):
    rng = np.random.default_rng(n)
    V = rng.choice([0.0, 1.0], (n, 1))
    common = 1.0 if 2 * V.sum() > n else 0.0
    expected = tuple(np.flatnonzero(V[:, 0] == common))
    majority = len(expected)
    f = min((n - 3) // 2, majority - 2)
    neighbours = min(n - f - 2, majority - 1)
    assert MultiKrum(f=n - 2 - neighbours, m=majority, strict=False)(V).selected == expected


def test_minus_zero_and_zero_are_the_same_value():
    V = np.array([[5.0], [0.0], [-0.0], [0.0], [-0.0]])
    assert MultiKrum(f=1, m=4)(V).selected == (1, 2, 3, 4)


# --- properties ---


@settings(max_examples=40, deadline=None)
@given(inputs())
def test_one_selected_client_is_krum_and_all_selected_are_the_average(case):
    V, f = case
    krum, one = Krum(f)(V), MultiKrum(f, m=1)(V)
    assert one.selected == krum.selected
    np.testing.assert_array_equal(one.vector, krum.vector)
    everyone = MultiKrum(f, m=len(V))(V)
    np.testing.assert_array_equal(everyone.vector, Average()(V).vector)
    np.testing.assert_allclose(everyone.vector, V.mean(axis=0), rtol=1e-14, atol=1e-14)


def test_the_mean_of_the_selected_is_exact_to_the_last_bit_but_one():
    rng = np.random.default_rng(4)
    V = rng.standard_normal((11, 5))
    result = MultiKrum(f=3)(V)
    for value, column in zip(result.vector, V[list(result.selected)].T, strict=True):
        mean = sum(map(Fraction, column.tolist())) / 8
        assert abs(Fraction(float(value)) - mean) <= Fraction(2.0**-50) * max(map(abs, column))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_client_that_is_not_finite_is_never_chosen(value):
    for at in range(5):
        V = CONFORMANCE.copy()
        V[at] = value
        assert at not in MultiKrum(f=1, m=4)(V).selected
        with pytest.raises(ValueError, match="only 4 of 5 updates are finite, 5 are needed"):
            MultiKrum(f=1, m=5)(V)


# --- legal values ---


@pytest.mark.parametrize(
    ("n", "f", "bound"),
    [
        (5, 2, "f <= 1 at n=5, or n >= 7 at f=2"),
        (4, 1, "f <= 0 at n=4, or n >= 5 at f=1"),
        (20, 9, "f <= 8 at n=20, or n >= 21 at f=9"),
    ],
)
def test_an_f_beyond_the_bound_is_named_with_the_legal_range(n, f, bound):
    for rule in (Krum(f), MultiKrum(f), OneMinusPKrum(f)):
        name = type(rule).__name__
        with pytest.raises(ValueError, match=rf"{name} needs 2f \+ 2 < n, got n={n}, f={f}") as e:
            rule(np.zeros((n, 1)))
        assert bound in str(e.value)
        assert "strict=False" in str(e.value)


@pytest.mark.parametrize("n", range(1, 30))
def test_every_f_up_to_the_bound_is_legal_and_the_next_is_not(n):
    for f in range(n + 2):
        if 2 * f + 2 < n or f == 0:  # where nobody lies, any choice is an honest one
            assert Krum(f)(np.zeros((n, 1))).selected == (0,)
        else:
            with pytest.raises(ValueError, match="2f"):
                Krum(f)(np.zeros((n, 1)))


def test_without_strict_the_neighbours_are_n_minus_f_minus_2_or_at_least_one():
    rng = np.random.default_rng(6)
    for n, f in [(20, 9), (5, 2), (5, 3), (5, 4), (5, 9), (3, 1), (2, 0)]:
        V = rng.standard_normal((n, 3))
        scores = references.krum_scores(references.squared_distances(V), max(1, n - f - 2))
        result = Krum(f, strict=False)(V)
        assert result.selected == references.best(scores, 1), (n, f)
        np.testing.assert_allclose(result.scores, scores, rtol=1e-12)


@pytest.mark.parametrize("f", [-1, 2.5, 1.0, "x", True])
def test_f_must_be_a_whole_number(f):
    for rule in (Krum, MultiKrum, OneMinusPKrum):
        with pytest.raises(ValueError, match=r"f is .*, expected an integer >= 0") as error:
            rule(f)
        assert repr(f) in str(error.value)


@pytest.mark.parametrize("m", [0, -3, 1.5, "x", True])
def test_m_must_be_a_whole_number_of_at_least_one(m):
    with pytest.raises(ValueError, match=r"m is .*, expected an integer >= 1") as error:
        MultiKrum(1, m=m)
    assert repr(m) in str(error.value)


def test_m_beyond_n_is_named_with_the_bound_also_without_strict():
    for strict in (True, False):
        with pytest.raises(ValueError, match=r"got m=6, n=5; m <= 5"):
            MultiKrum(1, m=6, strict=strict)(CONFORMANCE)


def test_numpy_whole_numbers_are_whole_numbers():
    assert Krum(np.int64(1))(CONFORMANCE).selected == (3,)
    assert MultiKrum(1, m=np.int32(2))(CONFORMANCE).selected == (3, 1)


def test_fitting_multi_krum_lowers_f_and_never_averages_more_than_n_minus_f():
    assert MultiKrum(3, m=9).fitted(10, 2) == MultiKrum(2, m=8)
    assert MultiKrum(3, m=2).fitted(10, 2) == MultiKrum(2, m=2)
    assert MultiKrum(3).fitted(10, 2) == MultiKrum(2)
    assert MultiKrum(3, m=4, strict=False).fitted(2, 2) == MultiKrum(2, m=1, strict=False)


def test_a_degraded_rule_keeps_everything_but_its_bound():
    assert MultiKrum(3, m=2).degraded() == MultiKrum(3, m=2, strict=False)
    degraded = OneMinusPKrum(3, p=0.5, seed=9).degraded()
    assert degraded == OneMinusPKrum(3, p=0.5, seed=9, strict=False)


# --- 1-p Krum ---


def test_p_starts_at_one_and_sums_to_43_28_over_500_rounds():
    assert inverse_square_root(1) == 1.0
    assert round(math.fsum(map(inverse_square_root, range(1, 501))), 2) == 43.28


def test_one_minus_p_krum_averages_in_the_first_round():
    for seed in range(20):
        result = OneMinusPKrum(1, seed=seed)(CONFORMANCE, server_round=1)
        assert result.vector.tolist() == [6]
        assert result.selected == (0, 1, 2, 3, 4)
        assert result.scores is None


def test_one_minus_p_krum_is_krum_in_the_rounds_that_do_not_average():
    rule = OneMinusPKrum(1, seed=3)
    outcomes = {t: rule(CONFORMANCE, server_round=t).vector.tolist() for t in range(1, 60)}
    for t, vector in outcomes.items():
        assert vector == ([6] if rule.averages(t) else [10])
    assert {tuple(vector) for vector in outcomes.values()} == {(6,), (10,)}


def test_its_draws_depend_on_seed_and_round_alone():
    rounds = list(range(1, 300))
    draws = [OneMinusPKrum(1, seed=7).averages(t) for t in rounds]
    rule = OneMinusPKrum(2, seed=7)
    backwards = [rule.averages(t) for t in reversed(rounds)][::-1]
    np.random.seed(0)  # noqa: NPY002  the global generator must not matter
    assert [rule.averages(t) for t in rounds] == draws == backwards
    assert [OneMinusPKrum(1, seed=8).averages(t) for t in rounds] != draws


def test_its_averages_are_as_frequent_as_p_says():
    for p in (0.1, 0.5, 0.9):
        rule = OneMinusPKrum(1, p=p)
        count = sum(rule.averages(t) for t in range(1, 2001))
        assert abs(count - 2000 * p) < 4.5 * math.sqrt(2000 * p * (1 - p))
    # The mean number of averaging rounds among the first 500 is the sum of p_t, 43.28.
    counts = [sum(OneMinusPKrum(1, seed=s).averages(t) for t in range(1, 501)) for s in range(30)]
    variance = sum(p * (1 - p) for p in map(inverse_square_root, range(1, 501)))
    assert abs(np.mean(counts) - 43.28) < 4.5 * math.sqrt(variance / 30)


def test_p_zero_is_krum_p_one_is_the_average_and_p_may_be_a_function_of_the_round():
    assert OneMinusPKrum(1, p=0.0)(CONFORMANCE).selected == (3,)
    assert OneMinusPKrum(1, p=1)(CONFORMANCE, server_round=400).vector.tolist() == [6]
    every_second = OneMinusPKrum(1, p=lambda t: float(t % 2))
    assert [every_second.averages(t) for t in range(1, 7)] == [True, False] * 3


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), float("inf")])
def test_p_outside_zero_to_one_is_named(p):
    with pytest.raises(ValueError, match=r"p must be a probability in \[0, 1\], got"):
        OneMinusPKrum(1, p=p)
    with pytest.raises(ValueError, match=r"p must be a probability in \[0, 1\], got"):
        OneMinusPKrum(1, p=lambda t: p)(CONFORMANCE)


def test_seed_and_round_must_be_legal():
    with pytest.raises(ValueError, match="seed is -1, expected an integer >= 0"):
        OneMinusPKrum(1, seed=-1)
    with pytest.raises(ValueError, match="server_round is 0, expected an integer >= 1"):
        OneMinusPKrum(1, p=0.5)(CONFORMANCE, server_round=0)
