"""Phocas against a plain loop over fractions, which rounds nothing."""

from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.rules import MeaMed, Phocas
from tests.flwr_krum.hard_inputs import updates_of


def phocas(column, f):
    """The mean of the n - f values nearest to the f-trimmed mean, the smaller of two as near."""
    values = sorted(Fraction(float(x)) for x in column)
    n = len(values)
    centre = sum(values[f : n - f]) / (n - 2 * f)
    nearest = sorted(values, key=lambda x: (abs(x - centre), x))[: n - f]
    return float(sum(nearest) / (n - f))


def test_the_result_is_that_of_a_plain_loop(device):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        f = int(rng.integers(0, 6))
        n = 2 * f + 1 + int(rng.integers(0, 4)) * (seed % 3)  # a third of them at the least n
        V = rng.integers(-3, 4, (n, 20)) if seed % 2 else 10.0 * rng.standard_normal((n, 20))
        V = V.astype(np.float32)
        V[rng.integers(n)] = V[rng.integers(n)]
        found = Phocas(f)(updates_of(V, device)).vector
        exact = [phocas(column, f) for column in V.T]
        np.testing.assert_allclose(found, exact, rtol=1.2e-7, atol=1e-12, err_msg=f"{seed=}")


def test_with_all_but_the_middle_cut_it_is_the_mean_around_the_median():
    V = np.random.default_rng(0).standard_normal((7, 50))
    np.testing.assert_array_equal(Phocas(f=3)(V).vector, MeaMed(f=3)(V).vector)
    assert (Phocas(f=1)(V).vector != MeaMed(f=1)(V).vector).any()


def test_a_centre_between_two_values_keeps_the_smaller_one():
    assert Phocas(f=1)(np.array([[0.0], [1.0], [2.0], [3.0]])).vector == 1.0


def test_a_majority_of_liars_is_named_with_what_is_legal():
    with pytest.raises(ValueError, match=r"needs 2f < n, got n=6, f=3; legal: f <= 2 at n=6, or n"):
        Phocas(f=3)(np.zeros((6, 2)))
