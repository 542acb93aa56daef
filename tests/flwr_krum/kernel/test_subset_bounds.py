from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from flwr_krum.kernel.enclosure import Points, enclose
from flwr_krum.kernel.pairwise import squared_distances
from flwr_krum.kernel.subset_bounds import (
    cosine_bound,
    far_set,
    off_mean_bounds,
    products,
    quick_off_mean_bounds,
    ratio_bound,
)
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.rules import ClientUpdates, MultiKrum


def squares(X):
    return ((X[:, None] - X) ** 2).sum(axis=-1)


def small_round(rng):
    n, d = int(rng.integers(2, 10)), int(rng.integers(1, 6))
    X = rng.standard_normal((n, d))
    liars = int(rng.integers(0, n // 2 + 1))
    X[:liars] = (X[-1], X[:liars] * 10.0 ** rng.uniform(0, 8), 30.0)[rng.integers(0, 3)]
    A = (X.mean(axis=0), X[-1], rng.standard_normal(d))[rng.integers(0, 3)]
    return squares(X), ((X - A) ** 2).sum(axis=1)


def every(D, h, m):
    """Return ``||A - mean_S||^2`` and T_S of all sets of m."""
    sets = np.array(list(combinations(range(len(h)), m)))
    T = h[sets].mean(axis=1)
    V = D[sets[:, :, None], sets[:, None, :]].sum(axis=(1, 2)) / (2 * m * m)
    return T - V, T


@pytest.mark.parametrize("count", [150, pytest.param(5_000, marks=pytest.mark.slow)])
def test_no_set_exceeds_a_bound(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        D, h = small_round(rng)
        n = len(h)
        cosine = cosine_bound(D, h)
        curve, quick = off_mean_bounds(D, h, n - 1), quick_off_mean_bounds(h, n - 1, cosine)
        assert list(curve) == sorted(curve)
        for k in range((n + 1) // 2):
            off, T = every(D, h, n - k)
            rounding = 1e-12 * h.max()
            assert (off <= min(curve[k], quick[k]) + rounding).all()
            assert (off <= cosine / (n - k) * T + rounding).all()
            assert (off <= ratio_bound(D, h, k, cosine) * T + rounding).all()
            S = far_set(D, h, k)
            assert len(S) == len(set(S.tolist())) == n - k


def test_the_far_set_is_mostly_the_farthest():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        D, h = small_round(rng)
        n = len(h)
        k = (n - 1) // 2
        off, T = every(D, h, n - k)
        S = far_set(D, h, k)
        mine = h[S].sum() - D[np.ix_(S, S)].sum() / (2 * S.size)
        share = (off / np.maximum(T, 1e-300)).max()
        hits += mine >= (share * (1 - 1e-6) - 1e-9) * h[S].sum()
    assert hits >= 90


def test_no_bound_is_lost_where_all_is_zero():
    zeros = np.zeros((5, 5))
    cosine = cosine_bound(zeros, np.zeros(5))
    assert off_mean_bounds(zeros, np.zeros(5), 2).max() == 0.0
    assert 0.0 <= ratio_bound(zeros, np.zeros(5), 2, cosine) <= 1.0


def inputs(n, f, d=2000):
    """Yield six rounds that a bound should be close for, by name."""
    rng = np.random.default_rng(0)
    honest = rng.standard_normal(d) / np.sqrt(d) + 0.05 * rng.standard_normal((n, d))
    mean, deviation = honest[f:].mean(axis=0), honest[f:].std(axis=0)

    def attacked(rows):
        return np.vstack([np.broadcast_to(rows, (f, d)), honest[f:]])

    yield "honest", honest
    yield "alie", attacked(mean - 1.5 * deviation)
    yield "gaussian", attacked(14.0 * rng.standard_normal((f, d)))
    yield "copies", attacked(np.full(d, 10.0))
    yield "ipm", attacked(-0.5 * mean)
    centres = rng.standard_normal((5, d))
    yield "clusters", honest + 0.2 * centres[np.arange(n) % 5]


def swapped(M, S):
    """Return a set of large 1_S'M1_S: the best swap of two clients while one helps."""
    inside = np.zeros(len(M), dtype=bool)
    inside[S] = True
    sums = M[:, inside].sum(axis=1)
    own = np.diagonal(M)
    while True:
        ins, outs = np.flatnonzero(~inside), np.flatnonzero(inside)
        gain = (2 * sums[ins] + own[ins])[:, None] + (own[outs] - 2 * sums[outs])[None, :]
        gain -= 2 * M[np.ix_(ins, outs)]
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        if gain[i, j] <= 1e-12 * np.abs(gain).max():
            return outs
        inside[ins[i]], inside[outs[j]] = True, False
        sums += M[:, ins[i]] - M[:, outs[j]]


def climbed(H, S):
    """Return a set of larger 1_S'H1_S, always the largest of what is linear in it; H is convex."""
    best = -1.0
    while (now := H[np.ix_(S, S)].sum()) > best * (1 + 1e-9):
        best, S = now, np.argsort(-H[:, S].sum(axis=1))[: len(S)]
    return S


def searched(H, heights, m):
    """Return a large ``||A - mean_S||^2`` and a large share of T_S that it is."""
    rows = (H.sum(axis=1), heights, *H[:5], *H[:: len(H) // 5])
    starts = [climbed(H, np.argsort(-row)[:m]) for row in rows]
    off = max(H[np.ix_(S, S)].sum() for S in (swapped(H, S) for S in starts))
    share = 0.0
    for S in (starts[0], far_set(heights[:, None] + heights - 2 * H, heights, len(H) - m)):
        last = -1.0
        while (now := H[np.ix_(S, S)].sum() / (m * heights[S].sum())) > last * (1 + 1e-9):
            last, share = now, max(share, now)
            S = swapped(H / m - np.diag(now * heights), S)
    return off / m**2, share


@pytest.mark.parametrize(
    ("n", "f"),
    [
        (50, 10),
        pytest.param(200, 60, marks=pytest.mark.slow),
        pytest.param(500, 100, marks=pytest.mark.slow),
    ],
)
def test_bounds_for_many_clients_are_close_to_what_a_search_reaches(n, f):
    m = n - f
    for name, X in inputs(n, f):
        made = MultiKrum(f)(X)
        found = enclose(
            Points.of_clients(squared_distances(ClientUpdates.from_matrix(X))), made.weights
        )
        low, heights = found.low_of_clients, found.heights_high
        with one_blas_thread():
            cosine = cosine_bound(low, heights)
            radius = off_mean_bounds(low, heights, (n - 1) // 2)[f]
            share = ratio_bound(low, heights, f, cosine)
            off, reached = searched(products(low, heights), heights, m)
        assert np.sqrt(radius / off) <= (1.4 if name == "gaussian" else 1.11), name
        assert share / (1 - share) <= 1.75 * reached / (1 - reached), name
