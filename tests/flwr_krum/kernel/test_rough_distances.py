"""Distances in float32 that decide of mixed rows what they can: bounds, and what they choose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.kernel import client_geometry
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.device import numba_is_installed
from flwr_krum.kernel.geometry import NONE
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules import Average, Bucketing, NearestNeighborMixing
from flwr_krum.rules.written import parse_rule

pytestmark = pytest.mark.skipif(not numba_is_installed(), reason="needs the extra 'fast'")


def updates_of(V, device="cpu:numba"):
    return ClientUpdates.from_layers([[row] for row in V], [np.zeros_like(V[0])], device=device)


def rows_of(kind, n, rng):
    """Return float32 rows (n, 40) whose distances are equal, nearly equal, or of any size."""
    V = rng.standard_normal((n, 40)).astype(np.float32)
    if kind == "grid":  # many ties
        V = rng.integers(-1, 2, (n, 40)).astype(np.float32)
    if kind == "twins":
        V = V[rng.integers(n // 2 + 1, size=n)]
    if kind == "far away":  # all alike beside how far they are from the model
        V = V * np.float32(2.0**-18) + np.float32(1.0)
    if kind == "giants":
        V[rng.choice(n, n // 4, replace=False)] *= np.float32(1e12)
    if kind == "last bits":
        V = np.nextafter(V[:1], np.inf, dtype=np.float32) + np.zeros_like(V)
        V[rng.random(V.shape) < 0.1] *= np.float32(1 + 2.0**-23)
    return V


KINDS = ("plain", "grid", "twins", "far away", "giants", "last bits")


def mixture_of(n, rng):
    """Return a matrix of sum 1: neighbours, buckets, or anything."""
    kind = rng.integers(3)
    if kind == 0:
        keep = int(rng.integers(1, n + 1))
        return np.array([np.isin(np.arange(n), rng.permutation(n)[:keep]) / keep for _ in range(n)])
    if kind == 1:
        parts = np.array_split(rng.permutation(n), max(1, n // 2))
        return np.array([np.isin(np.arange(n), part) / len(part) for part in parts])
    M = rng.standard_normal((n, n)) + 1.0
    return M / M.sum(axis=1, keepdims=True)


def exact_squared(V, M):
    """Return the squared distances of mixed rows, in fractions."""
    exact = np.array([[Fraction(float(x)) for x in row] for row in V])
    weights = np.array([[Fraction(float(x)) for x in row] for row in M])
    for row, heaviest in zip(weights, np.abs(M).argmax(axis=1), strict=True):
        row[heaviest] += 1 - sum(row)  # as the mixing means it
    mixed = weights @ exact
    return ((mixed[:, None] - mixed[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("kind", KINDS)
def test_rough_distances_of_mixed_rows_are_within_their_bounds(kind):
    rng = np.random.default_rng([KINDS.index(kind), 1])
    seen = 0
    for _ in range(6):
        n = int(rng.integers(3, 8))
        V, M = rows_of(kind, n, rng)[:, :7], mixture_of(n, rng)
        rough = ClientGeometry(updates_of(V)).mixed(M).rough()
        if rough is None:
            continue
        squared, error = rough
        for r, row in enumerate(exact_squared(V, M)):
            for s, exact in enumerate(row):
                assert abs(Fraction(float(squared[r, s])) - exact) <= Fraction(float(error[r, s]))
                seen += 1
    assert seen > 20


CHAINS = ("nnm | krum", "nnm | multi-krum(m=2)", "nnm | medoid", "nnm | median", "nnm")
"""And mixing alone, before the average."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", CHAINS)
def test_a_chain_chooses_the_same_where_distances_were_rough_at_first(text, kind, monkeypatch):
    chain = parse_rule(f"{text} | average" if text == "nnm" else text, f=2)
    rng = np.random.default_rng([KINDS.index(kind), 2])
    draws = [rows_of(kind, int(rng.integers(7, 14)), rng) for _ in range(40)]
    rough = [chain(updates_of(V)).choice for V in draws]
    monkeypatch.setattr(ClientGeometry, "rough", lambda self, sharp=None: None)
    for V, found in zip(draws, rough, strict=True):
        expected = chain(updates_of(V)).choice
        np.testing.assert_array_equal(found.mix, expected.mix)
        assert found.selected == expected.selected


def test_rows_in_doubt_are_sharpened_and_no_inner_product_is_taken(monkeypatch):
    asked = []
    whole = ClientGeometry.rough

    def rough(self, sharp=NONE):
        asked.append(sharp.tolist())
        return whole(self, sharp)

    monkeypatch.setattr(ClientGeometry, "rough", rough)
    monkeypatch.setattr(ClientGeometry, "_sharp", property(lambda self: pytest.fail("products")))
    V = np.zeros((9, 40), np.float32)
    V[np.arange(9), np.arange(9)] = 1.0 + np.arange(9)  # far from each other, at lengths 1 to 9
    V[7, 7] = np.nextafter(np.float32(9), np.float32(0))  # for all others nearly as far as client 8
    choice = parse_rule("nnm | krum", f=1)(updates_of(V)).choice
    assert choice.mix.shape == (1, 9)
    assert asked == [[], [0, 1, 2, 3, 4, 5, 6], []]


def test_a_mixing_that_ranks_nothing_takes_no_inner_products_for_the_rule_behind_it(monkeypatch):
    class Blind(Average):
        is_ranking = False

    taken = []
    products = client_geometry.gram_distances
    monkeypatch.setattr(
        client_geometry, "gram_distances", lambda rows: taken.append(1) or products(rows)
    )
    updates = updates_of(rows_of("plain", 12, np.random.default_rng(0)))
    (Bucketing(s=2, seed=0) | Blind())(updates)
    assert taken == []
    (NearestNeighborMixing(f=2) | Blind())(updates)
    assert taken == [1]
