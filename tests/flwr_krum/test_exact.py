from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_krum.exact import SHIFT, exact_squared_distance

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def by_fractions(a, b):
    total = sum((Fraction(float(x)) - Fraction(float(y))) ** 2 for x, y in zip(a, b, strict=True))
    return total * 2**SHIFT


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=12))
def test_any_finite_floats_give_the_distance_that_fractions_give(pairs):
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    assert exact_squared_distance([a], [b]) == by_fractions(a, b)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 65536, 65537, 150_000])
def test_long_vectors_are_summed_without_rounding(dtype, size):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size)).astype(dtype)
    b[: size // 2] *= dtype(2**-10)
    halves = [a[: size // 3], a[size // 3 :]], [b[: size // 3], b[size // 3 :]]
    assert exact_squared_distance(*halves) == by_fractions(a, b)


def test_the_smallest_and_the_largest_floats_are_in_range():
    tiny, huge = np.array([5e-324]), np.array([np.finfo(np.float64).max])
    assert exact_squared_distance([tiny], [np.zeros(1)]) == Fraction(5e-324) ** 2 * 2**SHIFT
    assert exact_squared_distance([huge], [-huge]) == by_fractions(huge, -huge)
    assert exact_squared_distance([huge], [huge]) == 0
