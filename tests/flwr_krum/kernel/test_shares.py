"""The cap of declared weights, against the table of sizes, a closed form and a brute-force loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_krum.kernel.numpy_way import weighted_window_mean
from flwr_krum.kernel.shares import are_alike, capped, heaviest, largest_cap, taken
from flwr_krum.kernel.sorting import WeightedWindow

SIZES = np.array([17834.0, 5200, 3900, 2700, 1900, 1350, 820, 601, 190])

TABLE = [
    # f, target, U, weight moved in percent
    (1, 0.20, 3781, 31.7), (1, 0.25, 5554, 26.7), (1, 1 / 3, 8330, 18.4), (1, 0.45, 13632, 6.7),
    (2, 0.25, 791, 41.8), (2, 1 / 3, 2430, 35.0), (2, 0.40, 3781, 31.7), (3, 1 / 3, 190, 44.7),
]  # fmt: skip


@pytest.mark.parametrize(("f", "target", "U", "moved"), TABLE)
def test_the_caps_of_nine_hospitals(f, target, U, moved):
    found = largest_cap(SIZES, f, target)
    assert abs(found - U) <= 0.5 + 1e-9
    gap = np.abs(capped(SIZES, found) - SIZES / SIZES.sum()).sum() / 2
    assert round(100 * gap, 1) == moved
    assert heaviest(capped(SIZES, found), f) == pytest.approx(target, rel=1e-12)


WEIGHTS = st.lists(
    st.one_of(st.floats(1e-3, 1e3), st.sampled_from([1.0, 2.0, 17834.0, 1e-100, 1e100])),
    min_size=1, max_size=12,
)  # fmt: skip


def held_at(weights, U, f):
    """Return W_f(min(w, U)) by the definition."""
    cut = sorted((min(w, U) / U for w in weights), reverse=True)
    return math.fsum(cut[:f]) / math.fsum(cut)


def bisected(weights, f, target):
    """Return the largest U by bisection on its logarithm; None where there is none."""
    low, high = math.log(min(weights)), math.log(max(weights))
    if held_at(weights, math.exp(high), f) <= target:
        return max(weights)
    if f / len(weights) > target:
        return None
    for _ in range(200):
        middle = (low + high) / 2
        if held_at(weights, math.exp(middle), f) <= target:
            low = middle
        else:
            high = middle
    return math.exp(low)


@given(WEIGHTS, st.integers(0, 12), st.floats(0.02, 0.98))
def test_the_cap_is_the_largest_that_holds(weights, f, target):
    f = min(f, len(weights))
    found = largest_cap(np.array(weights), f, target)
    reference = bisected(weights, f, target)
    if found is None or reference is None:
        assert found is reference is None
        return
    assert held_at(weights, found, f) <= target * (1 + 1e-12)
    assert held_at(weights, min(found, max(weights)), f) >= held_at(weights, reference, f) - 1e-9
    shares = capped(np.array(weights), found)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares > 0.0).all()


@given(WEIGHTS, st.integers(1, 12))
def test_what_f_sites_hold_grows_with_the_cap(weights, f):
    f = min(f, len(weights))
    cuts = np.exp(np.linspace(math.log(min(weights)), math.log(max(weights)), 50))
    held = [heaviest(capped(np.array(weights), U), f) for U in cuts]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(held))
    assert held[0] == pytest.approx(f / len(weights))


def test_equal_shares_are_told_from_others():
    assert are_alike(np.full(3, 1 / 3))
    assert not are_alike(np.array([0.3, 0.3, 0.4]))


# --- windows of sorted shares ---


def trimmed_by_loop(values, shares, cut):
    """Return the mean of what lies between cut and 1 - cut, walking up the sorted values."""
    total, place = 0.0, 0.0
    for value, share in sorted(zip(values, shares, strict=True)):
        inside = max(0.0, min(place + share, 1.0 - cut) - max(place, cut))
        total += value * (inside if inside > 1e-12 else 0.0)
        place += share
    return total / (1.0 - 2.0 * cut)


@given(st.integers(2, 9), st.integers(0, 2**32 - 1), st.floats(0.0, 0.49))
def test_a_trimmed_window_is_what_a_loop_makes_of_it(k, seed, cut):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(k))
    rows = list(rng.standard_normal((k, 7)))
    found = weighted_window_mean(rows, WeightedWindow(tuple(shares.tolist()), cut))
    expected = [trimmed_by_loop(column, shares, cut) for column in np.array(rows).T]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_windows_of_whole_weights_are_those_of_so_many_copies(copies, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (len(copies), 6)).astype(float)
    total = sum(copies)
    shares = tuple((np.array(copies) / total).tolist())
    stacked = np.sort(np.repeat(rows, copies, axis=0), axis=0)
    median = weighted_window_mean(list(rows), WeightedWindow(shares, 0.5))
    np.testing.assert_array_equal(median, np.median(stacked, axis=0))
    for cut in range((total - 1) // 2 + 1):
        found = weighted_window_mean(list(rows), WeightedWindow(shares, cut / total))
        expected = stacked[cut : total - cut].mean(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(st.integers(3, 9), st.integers(0, 2**32 - 1))
def test_a_share_at_the_edge_of_the_window_leaves_no_sliver_of_a_liars_number(k, seed):
    weights = np.random.default_rng(seed).dirichlet(np.ones(k))
    U = largest_cap(weights, 1, max(0.25, 1 / k))
    shares = capped(weights, U)
    liar = int(np.argmax(shares))
    rows = [np.zeros(3)] * k
    rows[liar] = np.array([1e300, -1e300, 0.0])
    window = WeightedWindow(tuple(shares.tolist()), heaviest(shares, 1))
    assert weighted_window_mean(rows, window).tolist() == [0.0, 0.0, 0.0]


def test_what_is_taken_lies_between_two_places_and_counts_in_part():
    take = taken(np.array([0.25, 0.5, 0.25]), 0.125, 0.625)
    assert take.tolist() == [0.25, 0.75, 0.0]
