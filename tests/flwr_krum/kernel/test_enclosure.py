from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.distances import Distances
from flwr_krum.kernel.enclosure import Points, enclose
from flwr_krum.rules import ClientUpdates


def squares(X):
    return ((X[:, None] - X) ** 2).sum(axis=-1)


def test_the_exact_distances_lie_within_the_bounds_whatever_is_wrong_with_those_given():
    rng = np.random.default_rng(0)
    for _ in range(500):
        n, d = int(rng.integers(1, 8)), int(rng.integers(1, 4))
        X = rng.standard_normal((n + 1, d)) * 10.0 ** rng.uniform(-3, 3, (n + 1, 1))
        weights = rng.standard_normal(n) * rng.choice([0.1, 1.0, 10.0])
        A = weights @ X[:n] + (1 - weights.sum()) * X[n]
        exact, heights = squares(X), ((X - A) ** 2).sum(axis=1)
        error = exact * rng.choice([0.0, 1e-9, 1e-3], (n + 1, n + 1))
        error = np.maximum(error, error.T)
        wrong = np.triu(rng.choice([-1.0, 1.0], (n + 1, n + 1)), 1)
        points = Points(np.maximum(exact + (wrong + wrong.T) * error, 0.0), error, n, True)
        found = enclose(points, weights)
        unit, rounding = found.unit**2, 1e-12 * heights.max()
        assert (found.low * unit <= exact).all()
        assert (found.high * unit >= exact).all()
        assert (found.heights_low * unit <= heights + rounding).all()
        assert (found.heights_high * unit >= heights - rounding).all()


def test_an_aggregate_that_is_one_of_the_points_is_at_no_distance_from_it():
    X = np.random.default_rng(1).standard_normal((5, 3))
    X[3] = X[1]
    found = enclose(Points.of_matrix(squares(X), 1e-3), np.eye(5)[1])
    assert found.heights_high[1] == found.heights_high[3] == 0.0
    assert (found.heights_high[[0, 2, 4]] > 0.0).all()


def test_weights_whose_sum_is_one_up_to_rounding_need_no_global_model():
    points = Points.of_matrix(squares(np.eye(3)), 1e-12)
    assert points.full_weights(np.full(3, 1 / 3)).sum() == pytest.approx(1.0, abs=1e-15)
    with pytest.raises(ValueError, match="lies on the global model"):
        points.full_weights(np.full(3, 0.3))


def test_server_rows_and_the_global_model_follow_the_clients():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((6, 3))
    updates = ClientUpdates.from_layers(
        [(row,) for row in X[:4]], (X[5],), server_rows={"root": (X[4],)}
    )
    points = ClientGeometry(updates).points()
    assert (points.n, points.has_model) == (4, True)
    assert points.squared == pytest.approx(squares(X), rel=1e-9, abs=1e-12)
    alone = ClientGeometry(updates).clients(np.full(4, 0.25))
    assert (alone.n, alone.has_model) == (4, False)
    assert alone.squared == pytest.approx(squares(X[:4]), rel=1e-9)
    weights = np.array([0.1, 0.2, 0.0, 0.1, 0.5])
    A = weights @ X[:5] + 0.1 * X[5]
    found = enclose(points, weights)
    assert found.heights_high * found.unit**2 == pytest.approx(((X - A) ** 2).sum(1), rel=1e-9)


def test_lengths_that_were_never_taken_are_not_made_up():
    D = squares(np.eye(3))
    derived = Distances(D, D * 0, np.ones(3, dtype=bool), D, np.inf)
    with pytest.raises(ValueError, match="take distances with inner products"):
        Points.of_rows(derived, 3, 3)


@pytest.mark.parametrize("shape", [(3, 2), (3,)])
def test_matrices_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="one square shape"):
        enclose(Points(np.zeros(shape), np.zeros(shape), 3), np.full(3, 1 / 3))
    with pytest.raises(ValueError, match="4 clients among 3 points"):
        enclose(Points(np.zeros((3, 3)), np.zeros((3, 3)), 4), np.full(3, 1 / 3))


def test_a_point_that_was_moved_is_as_much_farther_at_most():
    X = np.random.default_rng(3).standard_normal((5, 3)) * 1e6
    points, weights = Points.of_matrix(squares(X), 1e-12), np.full(5, 0.2)
    still, moved = enclose(points, weights), enclose(points, weights, rounding=3.0)
    lengths = np.sqrt(still.heights_high) * still.unit
    assert np.sqrt(moved.heights_high) * moved.unit == pytest.approx(lengths + 3.0, rel=1e-9)
    assert np.sqrt(moved.heights_low) * moved.unit == pytest.approx(lengths - 3.0, rel=1e-9)
