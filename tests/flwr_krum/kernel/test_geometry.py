"""What rules see of the updates, and of their mixtures, against the vectors themselves."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.updates import ClientUpdates


def geometry_of(V, w):
    return ClientGeometry(ClientUpdates.from_layers([(row,) for row in V], (w,)))


def between(Y):
    return ((Y[:, None, :] - Y[None, :, :]) ** 2).sum(axis=2)


@pytest.fixture
def drawn():
    """Return a global model, and models that are as far from it as a millionth or a million."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(5)
    return w, w + 10.0 ** np.arange(-3, 4)[:, None] * rng.standard_normal((7, 5))


def test_norms_are_the_lengths_of_the_updates_however_short(drawn):
    w, V = drawn
    np.testing.assert_allclose(geometry_of(V, w).norms, np.linalg.norm(V - w, axis=1), rtol=1e-9)
    assert geometry_of(np.stack([w, w]), w).norms.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("sums_to_1", [True, False])
def test_mixtures_lie_where_the_mixed_vectors_do(drawn, sums_to_1):
    w, V = drawn
    M = np.random.default_rng(1).random((4, 7))
    M /= M.sum(axis=1, keepdims=True) * (1.0 if sums_to_1 else 2.0)
    Y = M @ (V - w)  # what is missing of the sum 1 lies on the global model
    mixed = geometry_of(V, w).mixed(M)
    assert (mixed.n, mixed.d) == (4, 5)
    np.testing.assert_allclose(mixed.gram, Y @ Y.T, rtol=1e-9)
    np.testing.assert_allclose(mixed.squared, between(Y), rtol=1e-9)
    np.testing.assert_allclose(mixed.norms, np.linalg.norm(Y, axis=1), rtol=1e-9)
    np.testing.assert_allclose(mixed.columns(np.array([4, 1])), Y[:, [4, 1]], rtol=1e-9)


def test_distances_of_mixtures_keep_their_digits_beside_what_is_common_to_all(drawn):
    w, V = drawn
    V = V[:4] - w  # their lengths are 0.001 to 1, in steps of 10
    M = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]])
    mixed = geometry_of(V + 2.0**20, w).mixed(M)
    np.testing.assert_allclose(mixed.squared, between(M @ (V + 2.0**20)), rtol=1e-6)


def test_the_same_mixture_twice_is_the_same_row(drawn):
    w, V = drawn
    M = np.full((3, 7), 1.0 / 7.0)
    M[1] = np.eye(7)[3]
    squared = geometry_of(V, w).mixed(M).squared
    assert squared[0, 2] == squared[2, 0] == 0.0 < squared[0, 1]
    assert np.array_equal(squared, squared.T)


def test_the_servers_rows_stand_after_the_clients_also_behind_a_mixing(drawn):
    w, V = drawn
    rows = {"root": (V[0] + 1.0,), "step": (V[1] - 2.0,)}
    updates = ClientUpdates.from_layers([(row,) for row in V], (w,), server_rows=rows)
    base = ClientGeometry(updates)
    for geometry in (base, base.mixed(np.eye(7)[:3])):
        for name, (row,) in rows.items():
            place = geometry.row_of(name)
            assert place == geometry.n + list(rows).index(name)
            np.testing.assert_allclose(
                geometry.all_products[place, 0], (row - w) @ (V[0] - w), rtol=1e-9
            )
        with pytest.raises(ValueError, match=r"no row 'own', only \['root', 'step'\]"):
            geometry.row_of("own")
