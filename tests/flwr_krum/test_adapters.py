"""Means of adapters' products, against the products themselves."""

from __future__ import annotations

import re

import numpy as np
import pytest

from flwr_krum.adapters import of_rank, stacked
from flwr_krum.space import LowRank

SPACE = LowRank({"q.A": "q.B", "v.A": "v.B"}, scale=2.0)
SHAPES = {"q": (7, 5), "v": (4, 9)}


def adapter(seed, rank=2, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        key: array.astype(dtype)
        for name, (out, inner) in SHAPES.items()
        for key, array in (
            (f"{name}.A", rng.standard_normal((rank, inner))),
            (f"{name}.B", rng.standard_normal((out, rank))),
        )
    } | {"head": rng.standard_normal(3)}


def product(found, name, scale=SPACE.scale):
    """Return ``scale B A`` by a loop over the rank."""
    left, right = (np.asarray(found[f"{name}.{x}"], float) for x in "BA")
    total = np.zeros(SHAPES[name])
    for k in range(left.shape[1]):
        total += scale * np.outer(left[:, k], right[k])
    return total


@pytest.mark.parametrize("weights", [None, (0.5, 0.2, 0.3)])
def test_the_products_of_stacked_factors_are_the_mean_of_products(weights):
    several = [adapter(seed) for seed in range(3)]
    found = stacked(several, SPACE, weights=weights)
    assert found.keys() == {"q.A", "q.B", "v.A", "v.B"}
    for name, (out, inner) in SHAPES.items():
        assert (found[f"{name}.A"].shape, found[f"{name}.B"].shape) == ((6, inner), (out, 6))
        shares = weights or [1 / 3] * 3
        expected = sum(w * product(each, name) for w, each in zip(shares, several, strict=True))
        np.testing.assert_allclose(product(found, name), expected, rtol=1e-12, atol=1e-12)


def test_adapters_of_different_ranks_are_stacked_by_the_scale_of_each():
    several = [adapter(seed, rank) for seed, rank in enumerate((1, 2, 4))]
    scales = [8.0 / rank for rank in (1, 2, 4)]
    found = stacked(several, SPACE, scales=scales)
    for name in SHAPES:
        parts = [product(each, name, scale) for each, scale in zip(several, scales, strict=True)]
        np.testing.assert_allclose(product(found, name), sum(parts) / 3, rtol=1e-12, atol=1e-12)


def test_the_basis_of_a_client_does_not_change_the_mean_of_products():
    first, second = adapter(0), adapter(1)
    turned = dict(second)
    for name in SHAPES:
        R = np.array([[2.0, 1.0], [0.5, -1.0]])
        turned[f"{name}.A"] = np.linalg.inv(R) @ second[f"{name}.A"]
        turned[f"{name}.B"] = second[f"{name}.B"] @ R
    for name in SHAPES:
        expected = product(stacked([first, second], SPACE), name)
        found = product(of_rank(stacked([first, turned], SPACE), SPACE, 4), name)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_no_product_of_the_rank_is_closer_than_the_first_singular_vectors(rank):
    several = stacked([adapter(seed) for seed in range(3)], SPACE)
    found = of_rank(several, SPACE, rank)
    for name, (out, inner) in SHAPES.items():
        assert (found[f"{name}.A"].shape, found[f"{name}.B"].shape) == ((rank, inner), (out, rank))
        whole = product(several, name)
        left_out = np.linalg.svd(whole, compute_uv=False)[rank:]
        error = np.linalg.norm(product(found, name) - whole)
        assert error == pytest.approx(np.sqrt((left_out**2).sum()), rel=1e-9, abs=1e-12)


def test_both_factors_are_equally_long_and_keep_their_dtype():
    found = of_rank(adapter(0, rank=3, dtype=np.float32), SPACE, 2)
    for name in SHAPES:
        A, B = found[f"{name}.A"], found[f"{name}.B"]
        assert A.dtype == B.dtype == np.float32
        np.testing.assert_allclose((A**2).sum(axis=1), (B**2).sum(axis=0), rtol=1e-5)


ERRORS = {
    "nothing": (lambda: stacked([], SPACE), "no adapters, expected at least 1"),
    "ranks": (
        lambda: stacked([adapter(0), adapter(1, rank=4)], SPACE),
        "'q.A' has ranks 2, 4: give scales=, the alpha / r of each adapter",
    ),
    "key": (lambda: stacked([adapter(0), {}], SPACE), "adapter 1 has no array 'q.A'"),
    "weights": (
        lambda: stacked([adapter(0)], SPACE, weights=[0.5, 0.5]),
        "2 weights for 1 adapters, expected one each",
    ),
    "scales": (
        lambda: stacked([adapter(0)], SPACE, scales=[]),
        "0 scales for 1 adapters, expected one each",
    ),
    "no product": (
        lambda: of_rank(adapter(0) | {"q.A": np.ones((3, 5))}, SPACE, 1),
        "the adapter: 'q.B' of shape (7, 2) and 'q.A' of shape (3, 5) make no product",
    ),
    "another layer": (
        lambda: stacked([adapter(0), adapter(1) | {"q.A": np.ones((2, 6))}], SPACE),
        "'q.A' and 'q.B' make products of different shapes",
    ),
    "rank": (lambda: of_rank(adapter(0), SPACE, 3), "rank is 3, 'q.B' times 'q.A' has one of 1 to"),
    "no rank": (lambda: of_rank(adapter(0), SPACE, 0), "rank is 0, 'q.B' times 'q.A' has one of"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_stacked_or_cut_is_named(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
