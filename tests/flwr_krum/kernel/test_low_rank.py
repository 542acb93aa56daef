"""Products of layers are compared as products, though none is formed."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.low_rank import NUMBERS, columns, width
from flwr_krum.kernel.pairwise import gram_distances, lengths
from flwr_krum.kernel.ranking import rank
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.updates import ClientUpdates, Products
from flwr_krum.rules import Bulyan, DnC, FLTrust, GeometricMedian, Krum, Median, Medoid, MultiKrum
from flwr_krum.rules.krum import krum_scores
from tests.flwr_krum import references

SCALE = 2.0
SHAPES = [(5, 3, 7), (4, 1, 2), (6, 3, 6)]
"""(out, r, in) of each pair of layers."""


def products(count):
    return Products(tuple((1 + 2 * k, 2 + 2 * k) for k in range(count)), SCALE)


def draw(rng, shapes=SHAPES, plain=4, dtype=np.float64, size=1.0):
    model = [size * rng.standard_normal(plain)]
    for out, r, inner in shapes:
        model += [size * rng.standard_normal((r, inner)), size * rng.standard_normal((out, r))]
    return [layer.astype(dtype) for layer in model]


def moved(base, rng, by):
    return [(layer + by * rng.standard_normal(layer.shape)).astype(layer.dtype) for layer in base]


def rotated(model, rng):
    """Return the same model in another basis of every pair."""
    turned = list(model)
    for a in range(1, len(model), 2):
        R, _ = np.linalg.qr(rng.standard_normal((len(model[a]),) * 2))
        turned[a] = (R.T @ model[a]).astype(model[a].dtype)
        turned[a + 1] = (model[a + 1] @ R).astype(model[a].dtype)
    return turned


def held(models, base=None, pairs=None, **options):
    updates = ClientUpdates.from_layers(models, base, **options)
    return replace(updates, products=pairs or products((len(models[0]) - 1) // 2))


def explicit(model, scale=SCALE):
    """Return a model as one vector, with the products in the place of their factors."""
    wide = [np.asarray(layer, np.float64) for layer in model]
    formed = [scale * (b @ a) for a, b in zip(wide[1::2], wide[2::2], strict=True)]
    return np.concatenate([wide[0], *(product.ravel() for product in formed)])


def exactly(model):
    """Return the same without rounding."""
    wide = [np.vectorize(lambda x: Fraction(float(x)), otypes=[object])(layer) for layer in model]
    formed = [Fraction(SCALE) * (b @ a) for a, b in zip(wide[1::2], wide[2::2], strict=True)]
    return np.concatenate([wide[0], *(product.ravel() for product in formed)])


def hard_federations():
    """Yield a federation and its global model, kind by kind."""
    rng = np.random.default_rng(2017)
    for dtype in (np.float32, np.float64):
        base = draw(rng, dtype=dtype)
        honest = [moved(base, rng, 0.01) for _ in range(4)]
        yield "as usual", honest, base
        yield "without a global model", honest, None
        yield "in another basis", [*honest[:3], rotated(honest[3], rng), rotated(base, rng)], base
        yield "as the global model", [*honest, base, base], base
        yield "one of 1e30", [*honest, draw(rng, dtype=dtype, size=1e30)], base
        yield "all but equal", [moved(base, rng, 1e-7) for _ in range(4)], base
        sizes = [draw(rng, dtype=dtype, size=size) for size in (1e-6, 1.0, 1e6)]
        yield "of all sizes", sizes, draw(rng, dtype=dtype, size=1e-3)


def test_every_distance_of_products_lies_within_its_error_bound():
    for kind, models, base in hard_federations():
        distances = gram_distances(held(models, base))
        exact = [exactly(model) for model in models]
        for i, one in enumerate(exact):
            for j, other in enumerate(exact):
                gap = sum((one - other) ** 2)
                found = Fraction(float(distances.squared[i, j]))
                assert abs(found - gap) <= Fraction(float(distances.error[i, j])), (kind, i, j)


def test_every_inner_product_lies_within_the_error_that_is_stated():
    for kind, models, base in hard_federations():
        distances = gram_distances(held(models, base))
        if not np.isfinite(distances.dot_error):
            continue
        start = 0 if base is None else exactly(base)
        exact = [exactly(model) - start for model in models]
        norms = np.sqrt(np.diagonal(distances.gram))
        for i, one in enumerate(exact):
            for j, other in enumerate(exact):
                gap = abs(Fraction(float(distances.gram[i, j])) - sum(one * other))
                assert float(gap) <= distances.dot_error * norms[i] * norms[j], (kind, i, j)


def test_in_an_ordinary_federation_distances_are_good_to_ten_digits():
    rng = np.random.default_rng(1)
    base = draw(rng)
    models = [moved(base, rng, 0.01) for _ in range(7)]
    found = gram_distances(held(models, base))
    expected = references.squared_distances([explicit(model) for model in models])
    np.testing.assert_allclose(found.squared, expected, rtol=1e-10)
    assert (found.error <= 1e-9 * found.squared).all()


def test_a_basis_changes_no_distance_beyond_its_bound():
    rng = np.random.default_rng(2)
    base = draw(rng)
    models = [moved(base, rng, 0.1) for _ in range(6)]
    before = gram_distances(held(models, base))
    after = gram_distances(held([rotated(model, rng) for model in models], rotated(base, rng)))
    # A rotation in float64 is itself rounded.
    np.testing.assert_allclose(after.squared, before.squared, rtol=1e-9)


def test_a_client_in_another_basis_is_placed_to_six_digits():
    rng = np.random.default_rng(12)
    base = draw(rng, [(1024, 8, 1024)])
    models = [moved(base, rng, 0.01) for _ in range(3)]
    found = gram_distances(held([*models, rotated(models[0], rng)], base))
    assert (found.error[3, 1:3] < 1e-6 * found.squared[3, 1:3]).all()
    np.testing.assert_allclose(found.squared[3, 1:3], found.squared[0, 1:3], rtol=1e-6)
    assert (found.error[:3, :3] <= 1e-9 * found.squared[:3, :3]).all()


def test_equal_clients_are_at_distance_zero_and_nobody_is_far_from_himself():
    rng = np.random.default_rng(3)
    base = draw(rng, dtype=np.float32)
    models = [moved(base, rng, 0.1) for _ in range(5)]
    models[3] = [layer.copy() for layer in models[1]]
    found = gram_distances(held(models, base))
    assert np.argwhere(found.squared == 0.0).tolist() == sorted(
        [[i, i] for i in range(5)] + [[1, 3], [3, 1]]
    )
    np.testing.assert_array_equal(found.squared, found.squared.T)


def test_many_blocks_are_as_good_as_one(monkeypatch):
    rng = np.random.default_rng(4)
    base = draw(rng, [(300, 4, 200)])
    updates = held([moved(base, rng, 0.1) for _ in range(6)], base)
    whole = gram_distances(updates)
    monkeypatch.setattr("flwr_krum.kernel.low_rank.NUMBERS", 64 * 8)
    np.testing.assert_allclose(gram_distances(updates).squared, whole.squared, rtol=1e-12)


def test_nan_and_overflow_are_as_far_as_anywhere_else():
    rng = np.random.default_rng(5)
    base = draw(rng)
    models = [moved(base, rng, 0.1) for _ in range(5)]
    models[1][2] = np.full_like(models[1][2], np.nan)
    models[3] = draw(rng, size=1e160)
    found = gram_distances(held(models, base))
    assert found.finite.tolist() == [True, False, True, True, True]
    assert np.isinf(found.squared[3, [0, 2, 4]]).all()
    sound = [0, 2, 4]
    expected = references.squared_distances([explicit(models[i]) for i in sound])
    np.testing.assert_allclose(found.squared[np.ix_(sound, sound)], expected, rtol=1e-9)
    ranked = rank(held(models, base), partial(krum_scores, neighbours=2), 3)
    assert set(ranked.best) == set(sound)


def test_rules_choose_as_among_the_products_themselves():
    for rng in map(np.random.default_rng, range(20)):
        base = draw(rng, dtype=np.float32)
        models = [moved(base, rng, 0.1) for _ in range(8)]
        models[2] = draw(rng, dtype=np.float32, size=1e30)
        models[5] = rotated(models[5], rng)
        updates = held(models, base)
        V = np.array([explicit(model) for model in models]) - explicit(base)
        for rule in (Krum(1), MultiKrum(1), Medoid()):
            found = rule(updates)
            assert found.selected == rule(V).selected
            np.testing.assert_allclose(found.scores, rule(V).scores, rtol=1e-6)
        expected = GeometricMedian(1)(V).weights
        np.testing.assert_allclose(GeometricMedian(1)(updates).weights, expected, atol=1e-9)


def test_a_near_tie_goes_by_the_rounded_scores_and_the_note_says_so():
    rng = np.random.default_rng(7)
    base = draw(rng)
    models = [moved(base, rng, 0.1) for _ in range(5)]
    # The same model in two bases: which is closest to the others, rounding decides.
    models += [rotated(models[0], rng)]
    found = rank(held(models, base), partial(krum_scores, neighbours=2), 1)
    assert found.best == (min(range(6), key=lambda i: (found.scores[i], i)),)
    assert "products of layers, which are compared in float64" in found.note
    apart = rank(held(models[:5], base), partial(krum_scores, neighbours=2), 1)
    assert apart.note == ""


def test_lengths_and_coordinates_are_those_of_the_products():
    rng = np.random.default_rng(8)
    base = draw(rng, dtype=np.float32)
    models = [moved(base, rng, 0.1) for _ in range(5)]
    for start in (base, None):
        updates = held(models, start)
        V = np.array([explicit(model) for model in models])
        V = V - explicit(start) if start else V
        np.testing.assert_allclose(lengths(updates), np.linalg.norm(V, axis=1), rtol=1e-9)
        assert width(updates) == ClientGeometry(updates).d == V.shape[1]
        chosen = np.sort(rng.choice(V.shape[1], 30, replace=False))
        np.testing.assert_allclose(columns(updates, chosen), V[:, chosen], rtol=1e-6, atol=1e-12)
        rule = DnC(f=1, seed=3, columns=40)
        assert rule(updates).selected == rule(V).selected


def test_a_model_of_the_servers_own_is_a_row_like_any_other():
    rng = np.random.default_rng(13)
    base = draw(rng)
    models = [moved(base, rng, 0.1) for _ in range(5)]
    own = moved(base, rng, 0.1)
    updates = held(models, base, server_rows={"root": own})
    V = np.array([explicit(model) for model in [*models, own]]) - explicit(base)
    np.testing.assert_allclose(ClientGeometry(updates).all_products, V @ V.T, atol=1e-9)
    trusted = FLTrust()
    weights = trusted(updates).weights
    wide = ClientUpdates.from_layers(
        [[row] for row in V[:5]], [np.zeros(V.shape[1])], server_rows={"root": [V[5]]}
    )
    np.testing.assert_allclose(weights, trusted(wide).weights, atol=1e-9)


def test_measured_layers_and_pairs_among_them_stay_what_they_are():
    rng = np.random.default_rng(9)
    base = draw(rng)
    models = [moved(base, rng, 0.1) for _ in range(6)]
    updates = held(models, base, pairs=Products(((3, 4),), SCALE))
    some = replace(updates, measured=(0, 3, 4))
    alone = held([[model[i] for i in (0, 3, 4)] for model in models], [base[i] for i in (0, 3, 4)])
    geometry = ClientGeometry(some)
    np.testing.assert_array_equal(geometry.all_products, ClientGeometry(alone).all_products)
    assert geometry.d == ClientGeometry(alone).d == 4 + 4 * 2


def test_sorted_coordinates_of_factors_are_refused():
    rng = np.random.default_rng(10)
    updates = held([draw(rng) for _ in range(9)])
    for rule in (Median(1), Bulyan(1)):
        with pytest.raises(ValueError, match="a rule that sorts coordinates knows no products"):
            rule(updates)


@pytest.mark.timed
def test_eight_clients_of_eight_layers_take_a_small_part_of_what_products_take():
    rng = np.random.default_rng(11)
    shapes, f32 = [(1024, 8, 1024)] * 8, np.float32
    base = draw(rng, shapes, dtype=f32)
    updates = held([moved(base, rng, 0.01) for _ in range(8)], base)

    def measured(work):
        work()
        tracemalloc.start()
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result, seconds, peak

    def by_products():
        V = np.array([explicit(model) for model in updates.models]) - explicit(base)
        return V @ V.T

    with one_blas_thread():  # as in a round
        found, quick, small = measured(lambda: gram_distances(updates).gram)
        expected, slow, large = measured(by_products)
    print(f"{quick:.3f} s, {small / 1e6:.0f} MB; products {slow:.3f} s, {large / 1e6:.0f} MB")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert small < 6 * 8 * NUMBERS
    assert small < large / 10
    assert quick < slow / 4
