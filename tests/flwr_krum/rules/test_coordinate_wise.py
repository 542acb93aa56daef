from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.kernel import threads
from flwr_krum.kernel.updates import PIECE
from flwr_krum.rules import MeaMed, Median, TrimmedMean
from tests.flwr_krum.hard_inputs import updates_of

SIZES = [1, 2, 3, 4, 5, 10, 13, 20, 40, 41, 64, 101]


def draw(n, rng, dtype, d=300):
    kind = rng.integers(3)
    if kind == 0:  # many ties
        return rng.integers(-3, 4, (n, d)).astype(dtype)
    return (rng.standard_normal((n, d)) * (1.0 if kind == 1 else 100.0)).astype(dtype)


def rounded(values, dtype):
    """A mean of fractions, rounded to float64 and then to the dtype."""
    return np.array([float(x) for x in values]).astype(dtype)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_median_is_numpys(n, dtype, device):
    rng = np.random.default_rng(n)
    for _ in range(3):
        V = draw(n, rng, dtype)
        found = Median()(updates_of(V, device)).layers[0]
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.median(V.astype(float), axis=0).astype(dtype))


@pytest.mark.parametrize("n", SIZES)
def test_the_trimmed_mean_leaves_out_both_ends(n, device):
    V = draw(n, np.random.default_rng(n), np.float32, 40)
    for trim in {0, (n - 1) // 4, (n - 1) // 2}:
        middle = np.sort(V, axis=0)[trim : n - trim]
        exact = [sum(map(Fraction, map(float, column))) / len(middle) for column in middle.T]
        found = TrimmedMean(trim)(updates_of(V, device)).layers[0]
        np.testing.assert_allclose(found, rounded(exact, np.float32), rtol=1.2e-7)


def closest_to_median(column, keep):
    """The mean of the values nearest to the median, the smaller of two as near."""
    values = sorted(map(Fraction, map(float, column)))
    n = len(values)
    middle = (values[(n - 1) // 2] + values[n // 2]) / 2
    nearest = sorted(values, key=lambda x: (abs(x - middle), x))[:keep]
    return sum(nearest) / keep


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 20, 41])
def test_the_mean_around_the_median_takes_the_closest_values_the_smaller_of_two(n, device):
    rng = np.random.default_rng(n)
    V = np.concatenate([draw(n, rng, np.float32, 40) for _ in range(4)], axis=1)
    for keep in {1, 2, (n + 1) // 2, n - 1, n} & set(range(1, n + 1)):
        exact = [closest_to_median(column, keep) for column in V.T]
        found = MeaMed(n - keep, strict=False)(updates_of(V, device)).layers[0]
        np.testing.assert_allclose(found, rounded(exact, np.float32), rtol=1.2e-7, atol=1e-12)


def test_both_ways_give_the_same_bits_on_any_number_of_threads(monkeypatch):
    pytest.importorskip("numba")
    V = np.random.default_rng(1).standard_normal((7, 2 * PIECE + 100)).astype(np.float32)
    for most in (1, 4):
        monkeypatch.setattr(threads, "threads", lambda most=most: most)
        for rule in (Median(), TrimmedMean(2), MeaMed(3)):
            found = [rule(updates_of(V, d)).layers[0] for d in ("cpu:numpy", "cpu:numba")]
            assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize("rule", [Median, TrimmedMean, MeaMed])
def test_a_majority_of_liars_is_named_with_what_is_legal(rule):
    with pytest.raises(ValueError, match=r"needs 2f < n, got n=6, f=3; legal: f <= 2 at n=6, or n"):
        rule(f=3)(np.zeros((6, 2)))
