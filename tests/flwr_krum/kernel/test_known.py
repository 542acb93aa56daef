"""Distances that are known need not be worked out again, and have the bits that they would have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flwr_krum.kernel import updates, ways
from flwr_krum.kernel.pairwise import squared_distances
from flwr_krum.kernel.updates import ClientUpdates

numba_way = pytest.importorskip("flwr_krum.kernel.numba_way")


@pytest.fixture(autouse=True)
def _not_joined(monkeypatch):
    monkeypatch.setattr(updates, "SMALL", 0)


def some_updates(n, rng, dtypes=("f4", "f8")):
    shapes = [(3, 700), (1300,)]
    models = [
        [rng.standard_normal(s).astype(t) for s, t in zip(shapes, dtypes, strict=True)]
        for _ in range(n)
    ]
    reference = [np.ones(s, t) for s, t in zip(shapes, dtypes, strict=True)]
    return ClientUpdates.from_layers(models, reference, device="cpu:numba")


def worked_out(monkeypatch):
    """Return a list that gets the clients whose distances are worked out, call by call."""
    fresh, own = [], numba_way._fresh_pairs

    def noted(updates, buffers, clients, *others):
        fresh.append(clients.tolist())
        return own(updates, buffers, clients, *others)

    monkeypatch.setattr(numba_way, "_fresh_pairs", noted)
    return fresh


def assert_same(found, expected):
    for field in ("squared", "error", "gram", "finite"):
        assert np.array_equal(getattr(found, field), getattr(expected, field), equal_nan=True)


@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("f8", "f8"), ("f4", "f8")])
@pytest.mark.parametrize("n", [2, 5, 8, 11])
def test_known_in_whatever_batches_they_have_the_same_bits(n, dtypes, monkeypatch):
    rng = np.random.default_rng(n)
    whole = some_updates(n, rng, dtypes)
    expected = squared_distances(whole)
    fresh = worked_out(monkeypatch)
    for _ in range(20):
        order, known = rng.permutation(n), None
        for stop in sorted(rng.choice(np.arange(1, n + 1), 2)):
            known = ways.known_pairs(replace(whole.subset(order[:stop]), known=known))
        assert_same(squared_distances(replace(whole, known=known)), expected)
        assert (fresh[-1] if stop < n else []) == sorted(order[stop:])


def test_what_a_client_holds_that_is_not_finite_stays_its_own(monkeypatch):
    whole = some_updates(8, np.random.default_rng(1))
    whole.models[2][0][1, 5] = np.nan
    whole.models[5][1][7] = np.inf
    expected = squared_distances(whole)
    known = ways.known_pairs(whole.subset([5, 2, 1, 0]))
    assert_same(squared_distances(replace(whole, known=known)), expected)
    flat = whole.flat
    assert [known.is_finite(flat[i]) for i in (0, 1, 2, 5, 3)] == [True, True, False, False, False]


def test_beside_another_global_model_nothing_is_known(monkeypatch):
    whole = some_updates(6, np.random.default_rng(2))
    known = ways.known_pairs(whole)
    other = replace(whole, reference=tuple(layer + 1 for layer in whole.reference))
    expected = squared_distances(other)
    fresh = worked_out(monkeypatch)
    assert_same(squared_distances(replace(other, known=known)), expected)
    assert fresh == [list(range(6))]


def test_models_in_other_places_are_not_known(monkeypatch):
    whole = some_updates(6, np.random.default_rng(3))
    known = ways.known_pairs(whole.subset(range(5)))
    models = tuple(tuple(map(np.copy, model)) if i == 1 else model
                   for i, model in enumerate(whole.models))  # fmt: skip
    fresh = worked_out(monkeypatch)
    squared_distances(replace(whole, models=models, known=known))
    assert fresh == [[1, 5]]


def test_numpys_products_of_some_models_are_not_those_of_all():
    whole = some_updates(6, np.random.default_rng(5))
    assert ways.known_pairs(replace(whole, device="cpu:numpy")) is None
