from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flwr_krum.kernel.exact import SHIFT, exact_squared_distance

UNIT = Fraction(1, 2**SHIFT)
TINY, HUGE = 5e-324, np.finfo(np.float64).max

FLOAT64 = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e-300, 1e-300),
    st.builds(lambda m, e: m * 2.0**e, st.floats(-2, 2), st.integers(-1074, 1022)),
    st.sampled_from([0.0, -0.0, TINY, -TINY, HUGE, -HUGE, 1e308, 2.0**-400, 2.0**500, 2.0**-460]),
)


def by_fractions(a, b):
    """Return the squared distance by the definition, in fractions."""
    pairs = zip(np.concatenate(a).tolist(), np.concatenate(b).tolist(), strict=True)
    return sum(((Fraction(x) - Fraction(y)) ** 2 for x, y in pairs), Fraction(0))


def assert_exact(a, b):
    assert exact_squared_distance(a, b) * UNIT == by_fractions(a, b)


@settings(max_examples=300)
@given(st.lists(st.tuples(FLOAT64, FLOAT64), min_size=1, max_size=12))
@example([(HUGE, -HUGE)])
@example([(TINY, -TINY)])
@example([(1.0, 1.0 + 2**-52), (1.0, -(2**-1074)), (HUGE, TINY)])
@example([(2.0**-400, 0.0), (2.0**-401, 0.0), (2.0**500, 0.0), (2.0**501, 0.0)])
@example([(1.0, 2.0**-460), (1.0, 2.0**-461), (1.0, 1e-310)])
def test_it_equals_the_definition_in_fractions_on_any_float64(pairs):
    a, b = (np.array(values) for values in zip(*pairs, strict=True))
    assert_exact([a], [b])


@pytest.mark.parametrize("dtypes", [("f2", "f2"), ("f4", "f4"), ("f2", "f8"), ("f8", "f4")])
@given(st.data())
def test_it_equals_the_definition_on_mixed_widths(dtypes, data):
    a, b = (
        np.array(
            data.draw(
                st.lists(
                    st.floats(width=16, allow_nan=False, allow_infinity=False),
                    min_size=3,
                    max_size=3,
                )
            ),
            dtype,
        )
        for dtype in dtypes
    )
    assert_exact([a], [b])


@pytest.mark.parametrize("size", [65535, 65536, 65537, 140_000])
def test_long_vectors_are_exact_across_blocks(size):
    rng = np.random.default_rng(size)
    a, b = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
    # Sums of whole numbers by numpy, split so that none is rounded: squares of 2^-k multiples.
    x = np.round(a * 2**10).astype(np.int64) - np.round(b * 2**10).astype(np.int64)
    a, b = np.round(a * 2**10) / 2**10, np.round(b * 2**10) / 2**10
    expected = Fraction(int((x * x).sum()), 2**20)
    assert exact_squared_distance([a], [b]) * UNIT == expected


def test_layers_add_up():
    rng = np.random.default_rng(0)
    a = [rng.standard_normal(n) * 10.0**n for n in (1, 0, 5, 2)]
    b = [rng.standard_normal(n) for n in (1, 0, 5, 2)]
    assert_exact(a, b)
    parts = sum(exact_squared_distance([x], [y]) for x, y in zip(a, b, strict=True))
    assert exact_squared_distance(a, b) == parts


def test_equal_models_are_at_distance_zero_and_neighbours_are_not():
    a = np.array([1.0, HUGE, TINY, -0.0])
    assert exact_squared_distance([a], [a.copy()]) == 0
    assert exact_squared_distance([a], [np.array([1.0, HUGE, TINY, 0.0])]) == 0
    b = a.copy()
    b[2] = 0.0
    assert exact_squared_distance([a], [b]) * UNIT == Fraction(1, 2**2148)


@settings(max_examples=50)
@given(st.lists(st.tuples(FLOAT64, FLOAT64), min_size=1, max_size=6))
def test_the_distance_is_symmetric(pairs):
    a, b = (np.array(values) for values in zip(*pairs, strict=True))
    assert exact_squared_distance([a], [b]) == exact_squared_distance([b], [a])


@pytest.mark.filterwarnings("error")
def test_values_that_overflow_do_not_warn():
    assert_exact([np.array([HUGE, 1.0])], [np.array([-HUGE, 1e-310])])


@pytest.mark.parametrize("kind", ["any two exponents", "last bits", "one giant"])
def test_numbers_of_any_two_exponents_are_exact_without_a_loop_over_them(kind, monkeypatch):
    from flwr_krum.kernel import exact

    rng = np.random.default_rng(1)
    largest = 1021 if kind == "one giant" else 1020
    for _ in range(60):
        a, b = (
            np.ldexp(rng.choice([-1.0, 1.0], 40) * rng.uniform(0.5, 1, 40),
                     rng.integers(-1074, largest, 40)) for _ in range(2)
        )  # fmt: skip
        if kind == "last bits":
            b = a * (1 + rng.integers(-3, 4, 40) * 2.0**-52)
        if kind == "one giant":
            a = np.ldexp(rng.uniform(0.5, 1, 40), 1000)
        monkeypatch.setattr(exact, "_exact_square", None)  # not even once
        expected = sum(
            (Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)
        )
        assert exact_squared_distance([a], [b]) == expected * 2**SHIFT
