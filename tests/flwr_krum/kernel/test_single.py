"""Distances from float32 products: within their bounds always, and never the last word."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.kernel import blas, ranking, single, threads
from flwr_krum.kernel.exact import SHIFT, exact_squared_distance
from flwr_krum.kernel.pairwise import gram_distances, squared_distances
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules import Krum, Medoid, MultiKrum


def updates_of(V, base=None, device="cpu:numpy"):
    base = np.zeros_like(V[0]) if base is None else base
    return ClientUpdates.from_layers([[row] for row in V], [base], device=device)


def swallowed(n, rng):
    """Return rows of one large square before many that float32 loses when it adds them singly."""
    V = np.full((n, 700), 2.0**-12 * 0.999, np.float32) * rng.uniform(0.9, 1, (n, 700))
    V[np.arange(n), 128 * (np.arange(n) % 5)] = 1.0
    return V.astype(np.float32)


def rows_of(kind, n, rng):
    """Return float32 rows (n, 700) and a global model beside which float32 products may serve."""
    V = rng.standard_normal((n, 700)).astype(np.float32)
    base = np.zeros(700, np.float32)
    if kind == "one large square":
        V = swallowed(n, rng)
    if kind == "beside large parameters":
        base = (50 * rng.standard_normal(700)).astype(np.float32)
        V = base + np.float32(1e-2) * V
    if kind == "a common step":
        V += 2 * V[:1]
    if kind == "squares that underflow":
        V[: n // 3] *= np.float32(1e-23)
    if kind == "squares of few bits":
        V[: n // 3] *= np.float32(3e-22)
    if kind == "giants":
        V[: n // 3] *= np.float32(1e12)
    if kind == "twins":
        V[1::3] = V[:1]
    if kind == "of any size":
        V *= (2.0 ** rng.integers(-60, 30, (n, 1))).astype(np.float32)
    return V, base


KINDS = (
    "plain", "one large square", "beside large parameters", "a common step",
    "squares that underflow", "squares of few bits", "giants", "twins", "of any size",
)  # fmt: skip


def exact_squares(V):
    return [[Fraction(exact_squared_distance([a], [b]), 2**SHIFT) for b in V] for a in V]


@pytest.mark.parametrize("kind", KINDS)
def test_distances_and_products_lie_within_their_bounds(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    found = 0
    for n in (3, 5, 8):
        V, base = rows_of(kind, n, rng)
        distances = single.squared_distances(updates_of(V, base))
        if distances is None:
            continue
        found += 1
        assert distances.coarse
        for i, row in enumerate(exact_squares(V)):
            for j, exact in enumerate(row):
                off = abs(Fraction(float(distances.squared[i, j])) - exact)
                assert off <= Fraction(float(distances.error[i, j])), (i, j)
        if not np.isfinite(distances.dot_error):
            continue
        x = V.astype(np.longdouble) - base
        lengths = np.sqrt((x * x).sum(axis=1))
        off = np.abs(distances.gram - x @ x.T)
        assert (off <= distances.dot_error * np.outer(lengths, lengths)).all()
    assert found > 1


def test_no_bound_is_much_wider_than_what_float32_can_lose():
    V = swallowed(8, np.random.default_rng(0))
    distances = single.squared_distances(updates_of(V))
    lost = np.abs(distances.squared - np.array(exact_squares(V), dtype=float))
    # The fewer the lanes in which BLAS adds, the more it loses: .42 with 8 of them, .026 with 16.
    assert (lost / np.maximum(distances.error, 1e-300)).max() > 0.01
    plain = single.squared_distances(updates_of(np.eye(8, 700, dtype=np.float32)))
    assert plain.error.max() < 2.0**-13 * plain.squared.max()


@pytest.mark.parametrize(
    ("V", "base"),
    [
        (np.eye(6, 40), None),
        (np.eye(6, 40, dtype=np.float32)[:2], None),
        (3e19 * np.eye(6, 40, dtype=np.float32), None),
        (np.array([[np.nan], [1], [2], [3]], np.float32), None),
        (np.float32(1e3) + 1e-3 * np.random.default_rng(0).random((6, 40), np.float32), None),
        (np.ones((6, 40), np.float32), None),
    ],
    ids=["float64", "two clients", "overflow", "NaN", "far from the model", "all alike"],
)
def test_what_float32_would_say_too_little_of_goes_to_float64(V, base):
    updates = updates_of(V, base)
    assert single.squared_distances(updates) is None
    assert not squared_distances(updates).coarse


def test_beyond_many_clients_products_are_faster_than_compiled_differences():
    pytest.importorskip("numba")
    V = np.random.default_rng(5).standard_normal((201, 64)).astype(np.float32)
    many, fewer = (squared_distances(updates_of(rows, device="cpu:numba")) for rows in (V, V[:200]))
    assert np.isfinite(many.dot_error)
    assert not np.isfinite(fewer.dot_error)
    V[7] = V[150]  # a tie within rounding: rows are looked at again by compiled differences
    found = [
        Krum(90)(updates_of(V, device=device)).selected for device in ("cpu:numba", "cpu:numpy")
    ]
    assert found[0] == found[1]


def near_ties(rng, gap):
    """Return rows (9, 3000) of which 3 and 5 are the best, and apart by less than float32 sees."""
    V = rng.standard_normal((9, 3000)).astype(np.float32)
    V[[3, 5]] *= np.float32(0.25)
    V[5] = -V[3]  # as long, and as far from zero rows
    V[[0, 1, 2, 4, 6, 7, 8]] = 0
    V[[0, 1, 2, 4, 6, 7, 8], np.arange(7)] = 40.0
    V[3, :7] = V[5, :7] = 0
    V[5, 100] *= np.float32(1.0 - gap)
    return V


@pytest.mark.parametrize("rule", [Krum(2), MultiKrum(2), Medoid()], ids=repr)
def test_near_ties_are_told_apart_as_by_float64(rule, monkeypatch):
    asked = []
    sharper = ranking.sharper
    monkeypatch.setattr(ranking, "sharper", lambda *of: asked.append(of[2]) or sharper(*of))
    V = near_ties(np.random.default_rng(1), 2.0**-20)
    updates = updates_of(V)
    assert single.squared_distances(updates) is not None
    found = rule(updates)
    assert found.selected[0] == 5  # it is the shorter one
    assert any({3, 5} <= set(clients.tolist()) for clients in asked)
    monkeypatch.setattr(single, "squared_distances", lambda updates: None)
    assert rule(updates_of(V)).selected == found.selected


@pytest.mark.parametrize("rule", [Krum(2), MultiKrum(2)], ids=repr)
def test_equal_models_tie_without_exact_arithmetic_however_a_blas_rounds(rule, monkeypatch):
    rng = np.random.default_rng(2)
    gram = blas.single_gram

    def rounded(*of):
        g = gram(*of)
        off = np.triu(rng.uniform(-1, 1, g.shape)) * 2.0**-20
        return g + (off + off.T) * np.sqrt(np.outer(np.diagonal(g), np.diagonal(g))) / 2

    monkeypatch.setattr(blas, "single_gram", rounded)
    monkeypatch.setattr(ranking.ways, "exact_squares", lambda *_: pytest.fail("exact"))
    for _ in range(10):
        V = rng.standard_normal((9, 900)).astype(np.float32)
        V[[2, 4, 7]] = V[4] * np.float32(0.1)
        found = rule(updates_of(V)).selected
        assert found[:3] == (2, 4, 7)[: len(found)]


def test_the_sums_are_the_same_on_any_number_of_threads_and_whatever_memory_held(monkeypatch):
    monkeypatch.setattr(blas, "PIECE", 700)
    monkeypatch.setattr(blas, "_MOST_SINGLE", 31 * 256)
    monkeypatch.setattr("flwr_krum.kernel.updates.SMALL", 0)
    rng = np.random.default_rng(3)
    V = rng.standard_normal((31, 5000)).astype(np.float32)
    models = [np.split(row, [1, 1, 300, 2999]) for row in V]
    updates = ClientUpdates.from_layers(models, [np.zeros_like(layer) for layer in models[0]])
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        found.append(blas.single_gram(updates, 128, 0, 5000))
        for name in ("block", "products"):
            getattr(blas._here, name, np.empty(0))[:] = np.nan
    np.testing.assert_allclose(found[0], V.astype(float) @ V.T.astype(float), rtol=1e-5, atol=0.05)
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    parts = [blas.single_gram(updates, 128, *ends) for ends in ((0, 1900), (1900, 5000))]
    np.testing.assert_allclose(sum(parts), found[0], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("small", [0, 2**19], ids=["apart", "joined"])
def test_layers_of_float16_and_float32_are_read_as_they_are_and_rounded_once(small, monkeypatch):
    monkeypatch.setattr("flwr_krum.kernel.updates.SMALL", small)
    rng = np.random.default_rng(4)
    dtypes = (np.float16, np.float32, np.float32)
    models = [[rng.standard_normal(5).astype(dtype) for dtype in dtypes] for _ in range(4)]
    base = [np.float32(1e-3) + layer.astype(np.float32) for layer in models[0]]
    updates = ClientUpdates.from_layers(models, base)
    V, w = np.array([np.concatenate(model) for model in models]), np.concatenate(base)
    for start, stop in ((0, 15), (3, 12)):
        block = np.full((5, 20), np.nan, np.float32)
        found = updates.read_offsets(start, stop, block)
        exact = V[:, start:stop].astype(float) - w[start:stop]
        np.testing.assert_array_equal(found, exact.astype(np.float32))
        assert np.isnan(block[4]).all()
        assert np.isnan(block[:, stop - start :]).all()


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("has_small_kernels", [False, True])
def test_both_ways_to_multiply_give_the_products(n, has_small_kernels, monkeypatch):
    monkeypatch.setattr(blas, "blas_is_one_of", lambda *_: has_small_kernels)
    V = np.random.default_rng(n).standard_normal((n, 3000)).astype(np.float32)
    exact = V.astype(np.longdouble) @ V.T.astype(np.longdouble)
    distances = single.squared_distances(updates_of(V))
    np.testing.assert_allclose(distances.gram, exact.astype(float), atol=1e-2)
    np.testing.assert_allclose(gram_distances(updates_of(V)).gram, exact.astype(float), atol=1e-9)
