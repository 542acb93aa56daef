from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flwr_krum.kernel.pairwise import length_at_most, squared_distances, squared_from
from flwr_krum.kernel.ranking import rank
from flwr_krum.kernel.updates import BLOCK, ClientUpdates
from flwr_krum.kernel.ways import gram
from tests.flwr_krum import references
from tests.flwr_krum.hard_inputs import updates_of


def test_the_gram_matrix_is_that_of_the_offsets():
    rng = np.random.default_rng(0)
    models = [[rng.standard_normal((2, 3)), rng.standard_normal(4)] for _ in range(5)]
    base = [rng.standard_normal((2, 3)), rng.standard_normal(4)]
    rows = [np.concatenate([(a - b).ravel() for a, b in zip(m, base, strict=True)]) for m in models]
    expected = [[math.fsum(a * b) for b in rows] for a in rows]
    np.testing.assert_allclose(gram(ClientUpdates.from_layers(models, base)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "sizes", [(BLOCK - 1, 3, BLOCK), (2 * BLOCK + 5,), (3,) * 4000, (1, BLOCK, 0, 1, 2 * BLOCK)]
)
def test_distances_across_the_borders_of_blocks_and_layers_are_right(sizes):
    rng = np.random.default_rng(len(sizes))
    V = rng.standard_normal((4, sum(sizes)))
    borders = np.cumsum(sizes)[:-1]
    updates = ClientUpdates.from_layers([np.split(row, borders) for row in V])
    found = squared_distances(updates).squared
    for i in range(4):
        for j in range(4):
            expected = math.fsum((V[i] - V[j]) ** 2)
            assert found[i, j] == pytest.approx(expected, rel=1e-10, abs=0)


def test_the_diagonal_is_zero_and_the_matrix_symmetric():
    V = 1e3 + 1e-3 * np.random.default_rng(1).standard_normal((20, 5))
    distances = squared_distances(updates_of(V))
    assert not np.diagonal(distances.squared).any()
    np.testing.assert_array_equal(distances.squared, distances.squared.T)
    np.testing.assert_array_equal(distances.error, distances.error.T)


def test_every_distance_lies_within_its_error_bound(hard_draws, device):
    for draw in hard_draws:
        distances = squared_distances(updates_of(draw.V, device))
        scale = Fraction(distances.scale)
        for i, row in enumerate(draw.squared):
            for j, exact in enumerate(row):
                found, error = distances.squared[i, j], distances.error[i, j]
                if math.isinf(found):
                    assert exact * scale * scale > Fraction(1e300)
                else:
                    assert abs(Fraction(float(found)) - exact * scale * scale) <= Fraction(
                        float(error)
                    )


@settings(max_examples=100, deadline=None)
@given(
    arrays(
        np.float64,
        (6, 3),
        elements=st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-60),
    )
)
def test_distances_are_accurate_to_six_digits_beside_any_global_model(V):
    exact = references.exact_distances(V)
    for base in (None, np.zeros(3), V[2], np.full(3, 1e9)):
        found = squared_distances(updates_of(V, base=base)).squared
        for i in range(6):
            for j in range(6):
                assert found[i, j] == pytest.approx(float(exact[i][j]), rel=1e-6, abs=0)


def test_cancellation_in_the_gram_matrix_does_not_reach_the_distances():
    # ||w|| = 1e3, updates of 1e-5, and no global model to centre on.
    rng = np.random.default_rng(3)
    w = rng.standard_normal(1000)
    w *= 1e3 / np.linalg.norm(w)
    V = w + 1e-5 * rng.standard_normal((8, 1000))
    found = squared_distances(updates_of(V)).squared
    for i in range(8):
        for j in range(i):
            expected = math.fsum((V[i] - V[j]) ** 2)
            assert found[i, j] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1e-200, 1e200, 5e-324, 1e-160, 1e160])
def test_sizes_whose_squares_leave_float64_are_rescaled(size):
    V = size * np.array(references.CONFORMANCE)[:, np.newaxis]
    distances = squared_distances(updates_of(V))
    assert distances.scale != 1.0
    assert math.frexp(distances.scale)[0] == 0.5
    exact = [
        [x * Fraction(distances.scale) ** 2 for x in row] for row in references.exact_distances(V)
    ]
    np.testing.assert_allclose(distances.squared, np.array(exact, dtype=float), rtol=1e-12, atol=0)


def test_ordinary_sizes_are_not_rescaled():
    for V in (np.eye(5), 1e-40 * np.eye(5), 1e60 * np.eye(5), np.zeros((5, 2))):
        assert squared_distances(updates_of(V)).scale == 1.0


def test_scores_are_reported_in_the_units_of_the_input():
    V = 1e-140 * np.array(references.CONFORMANCE)[:, np.newaxis]
    assert squared_distances(updates_of(V)).scale != 1.0
    ranking = rank(updates_of(V), lambda squared: np.sort(squared, axis=1)[:, 1:3].sum(axis=1), 5)
    np.testing.assert_allclose(ranking.scores, 1e-280 * np.array([45, 18, 25, 17, 26]), rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_client_that_is_not_finite_is_infinitely_far_from_every_other(value):
    for dtype in (np.float32, np.float64):
        V = np.arange(12.0).reshape(4, 3).astype(dtype)
        V[1, 2] = value
        distances = squared_distances(updates_of(V))
        assert distances.finite.tolist() == [True, False, True, True]
        assert np.isinf(distances.squared[1, [0, 2, 3]]).all()
        assert distances.squared[0, 2] == pytest.approx(3 * 36)


def test_vectors_that_overflow_are_finite_and_far():
    V = np.array([[1e300], [1.0], [2.0], [-1e300], [4.0]])
    distances = squared_distances(updates_of(V))
    assert distances.finite.all()
    assert np.isinf(distances.squared[0, [1, 2, 3, 4]]).all()
    assert distances.squared[1, 4] == 9 * distances.scale**2


def test_a_ranking_may_use_any_monotone_score():
    V = np.random.default_rng(4).integers(-5, 6, (9, 2)).astype(float)
    exact = references.squared_distances(V)
    worst = rank(updates_of(V), lambda squared: squared.max(axis=1), 9)
    assert worst.best == references.best([max(row) for row in exact], 9)
    total = rank(updates_of(V), lambda squared: squared.sum(axis=1), 4)
    assert total.best == references.best([sum(row) for row in exact], 4)


def test_a_ranking_of_more_clients_than_are_finite_is_refused():
    V = np.array([[np.nan], [1.0], [2.0]])
    with pytest.raises(ValueError, match="only 2 of 3 updates are finite, 3 are needed"):
        rank(updates_of(V), lambda squared: squared.sum(axis=1), 3)


def test_exact_ties_through_different_sums_go_to_the_smallest_index():
    # 3-4-5 and 0-5: squared distances that are equal, reached through different coordinates.
    V = np.array([[5.0, 0.0], [3.0, 4.0], [0.0, 0.0], [-4.0, 3.0]])
    ranking = rank(updates_of(V), lambda squared: squared[:, 2], 4)
    assert ranking.best == (2, 0, 1, 3)


def test_exact_ties_of_square_roots_go_to_the_smallest_index():
    # On the segment from P to Q the two distances always add up to sqrt(32), but not in float64.
    assert math.sqrt(2) + math.sqrt(18) < math.sqrt(8) + math.sqrt(8)
    V = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [-3.0, -3.0]])
    ranking = rank(updates_of(V), lambda squared: np.sqrt(squared[:, 2:]).sum(axis=1), 4)
    assert ranking.best == (0, 1, 2, 3)


@pytest.mark.timed
def test_identical_models_cost_no_more_than_others():
    # As in a round in which nobody trained; settling all these ties exactly would take seconds.
    model = np.random.default_rng(7).standard_normal(200_000).astype(np.float32)
    start = time.process_time()
    ranking = rank(updates_of([model] * 20), lambda squared: squared.sum(axis=1), 20)
    assert time.process_time() - start < 2.0
    assert ranking.best == tuple(range(20))


def test_the_models_are_not_changed():
    V = np.random.default_rng(5).standard_normal((6, 3))
    before = V.copy()
    V.setflags(write=False)
    rank(updates_of(V, base=V[0]), lambda squared: squared.sum(axis=1), 6)
    np.testing.assert_array_equal(V, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_global_model_that_is_no_help_does_no_harm(value):
    V = np.random.default_rng(6).standard_normal((7, 3))
    found = squared_distances(updates_of(V, base=np.array([0.0, value, 1.0])))
    assert found.finite.all()
    np.testing.assert_allclose(
        found.squared / found.scale**2, references.squared_distances(V), rtol=1e-9
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 5 * BLOCK + 1])
def test_a_model_is_as_far_from_the_clients_as_it_says(device, dtype, d):
    rng = np.random.default_rng(d)
    X = rng.standard_normal((6, d)).astype(dtype)
    X[1] *= dtype(50.0)
    updates = replace(ClientUpdates.from_layers([(row,) for row in X], (X[2],)), device=device)
    found, error = squared_from(updates, (X[0],))
    apart = ((X.astype(np.longdouble) - X[0]) ** 2).sum(axis=1)
    assert found[0] == 0.0
    assert (np.abs(found - apart) <= error).all()
    assert (error <= 1e-9 * found + 1e-300).all()
    far, _ = squared_from(updates, (X[0],), scale=0.5)
    np.testing.assert_allclose(far, found / 4.0, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_length_is_never_too_small_and_hardly_too_large(dtype):
    rng = np.random.default_rng(3)
    layers = [rng.standard_normal((300, 500)).astype(dtype), np.ones(7, dtype)]
    length = math.sqrt(sum(float((layer.astype(float) ** 2).sum()) for layer in layers))
    assert length <= length_at_most(layers) <= 1.02 * length
    assert length_at_most([np.zeros(4, dtype)]) < 1e-15
    assert length_at_most([np.full(4, 1e-30, np.float32)]) >= 2e-30
    assert math.isinf(length_at_most([np.full(4, 1e30, np.float32)]))
