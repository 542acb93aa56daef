"""Random adversaries against the bounds of docs/weights.md: none is broken.

``||F - mu_H||^2 <= kappa sigma_H^2`` with mean and variance of the honest sites by share, b the
share of the liars and beta = W_f.
"""

from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.kernel.shares import capped, heaviest, largest_cap
from flwr_krum.rules import (
    GeometricMedian,
    Median,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)


def rounding(honest):
    """Return what rounding may make of a square, never 0."""
    return (1e-6 * np.abs(honest).max()) ** 2 + 1e-300


def of_median(beta, b):
    return 1.0 / (1.0 - 2.0 * b)


def of_trimmed_mean(beta, b):
    r = beta / (1.0 - 2.0 * beta)
    return 6.0 * r * (1.0 + r)


def of_geometric_median(beta, b):
    return 4.0 * ((1.0 - b) / (1.0 - 2.0 * b)) ** 2


def of_mixed_trimmed_mean(beta, b):
    return 8.0 * beta / (1.0 - beta) * (of_trimmed_mean(beta, b) + 1.0)


BOUNDS = {
    "median": (Median, of_median),
    "trimmed mean": (TrimmedMean, of_trimmed_mean),
    "geometric median": (GeometricMedian, of_geometric_median),
    "nnm, trimmed mean": (
        lambda f: NearestNeighborMixing() | TrimmedMean(f),
        of_mixed_trimmed_mean,
    ),
}


def honest_vectors(rng, n, d):
    """Return vectors (n, d) of one of several kinds, from a cloud to two points."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.standard_normal((n, d))
    if kind == 1:
        return rng.standard_t(1.5, (n, d))
    if kind == 2:
        return np.where(rng.random((n, 1)) < rng.random(), 0.0, 1.0) * rng.standard_normal(d)
    return rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 3, (n, 1))


def lying_vectors(rng, honest, f):
    """Return what f liars send: together, apart, among the honest, far away or just outside."""
    d, centre, spread = honest.shape[1], honest.mean(axis=0), honest.std() + 1e-12
    kind = rng.integers(5)
    if kind == 0:
        return np.tile(
            centre + spread * 10.0 ** rng.uniform(-2, 6) * rng.standard_normal(d), (f, 1)
        )
    if kind == 1:
        return centre + spread * 10.0 ** rng.uniform(-2, 6) * rng.standard_normal((f, d))
    if kind == 2:
        return np.tile(honest[rng.integers(len(honest))], (f, 1))
    if kind == 3:
        return honest[rng.integers(len(honest), size=f)] * rng.uniform(-3, 3, (f, 1))
    return np.tile(honest.max(axis=0) + rng.uniform(-0.1, 0.1) * spread, (f, 1))


def adversary(rng, least):
    """Return f, shares (n,), vectors (n, d) and who is honest; W_f is below 1/2."""
    f = int(rng.integers(1, 4))
    n = int(rng.integers(least(f), least(f) + 8))
    weights = rng.pareto(1.0, n) + 0.01
    beta = rng.uniform(f / n, 0.499) if f / n < 0.499 else 0.499
    shares = capped(weights, largest_cap(weights, f, max(beta, f / n)))
    heavy = np.argsort(-shares)[:f]
    liars = heavy if rng.random() < 0.7 else rng.permutation(n)[:f]
    honest = np.setdiff1d(np.arange(n), liars)
    vectors = np.empty((n, d := int(rng.integers(1, 4))))
    vectors[honest] = honest_vectors(rng, len(honest), d)
    vectors[liars] = lying_vectors(rng, vectors[honest], f)
    return f, shares, vectors, honest


def mean_and_variance(vectors, shares):
    p = shares / shares.sum()
    mean = p @ vectors
    return mean, float(p @ ((vectors - mean) ** 2).sum(axis=1))


def ratio(name, rng):
    """Return how near a random adversary comes to the bound of a rule: beyond 1 it is broken."""
    kind, kappa = BOUNDS[name]
    f, shares, vectors, honest = adversary(rng, lambda f: 2 * f + 1)
    mean, variance = mean_and_variance(vectors[honest], shares[honest])
    beta, b = heaviest(shares, f), 1.0 - float(shares[honest].sum())
    moved = float(((kind(f)(vectors, shares=shares).vector - mean) ** 2).sum())
    return moved / (kappa(beta, b) * variance + rounding(vectors[honest]))


def selection_ratio(rng):
    """Return the same for a selection without weights, and the mean of the selected by any."""
    f, shares, vectors, honest = adversary(rng, lambda f: 2 * f + 3)
    n, h = len(vectors), len(honest)
    mean, variance = mean_and_variance(vectors[honest], np.ones(h))
    weights = rng.dirichlet(np.full(n, 0.1)) if rng.random() < 0.5 else shares
    weights = np.maximum(weights, 1e-9) / np.maximum(weights, 1e-9).sum()
    moved = float(((MultiKrum(f)(vectors, shares=weights).vector - mean) ** 2).sum())
    kappa = (h + np.sqrt(h)) ** 2 / (n - 2 * f - 1)
    return moved / (kappa * variance + rounding(vectors[honest]))


def largest_ratio(name, count, seed):
    rng = np.random.default_rng(seed)
    draw = selection_ratio if name == "selection" else lambda rng: ratio(name, rng)
    return float(np.max([draw(rng) for _ in range(count)]))


every_bound = pytest.mark.parametrize("name", [*BOUNDS, "selection"])


@every_bound
def test_no_random_adversary_breaks_a_bound(name):
    assert largest_ratio(name, 300, seed=1) <= 1.0


@pytest.mark.slow
@every_bound
def test_none_of_155_000_random_adversaries_breaks_a_bound(name):
    found = largest_ratio(name, 31_000, seed=2)
    print(f"{name}: largest ratio to the bound {found:.3f}")
    assert found <= 1.0


def test_the_bound_of_the_median_is_tight():
    """Nearly half of the weight at one end, the liars beyond it, and the median in between."""
    p = 0.25
    shares = np.array([0.25 + 1e-4, 0.25, 0.5 - 1e-4])
    vectors = np.array([[1.0], [1.0], [0.0]])
    mean, variance = mean_and_variance(vectors[1:], shares[1:])
    found = Median(f=1)(vectors, shares=shares).vector
    moved = float((found - mean) @ (found - mean))
    assert 0.99 < moved / (of_median(0.5, p) * variance) <= 1.0


def test_a_large_honest_site_apart_from_all_others_is_thrown_out():
    """What a selection by count costs: kappa against the weighted mean is p / (1 - p)."""
    p = 0.517
    shares = np.array([p, *np.full(8, (1 - p) / 8)])
    vectors = np.array([[1.0], *[[0.0]] * 8])
    mean, variance = mean_and_variance(vectors, shares)
    found = MultiKrum(f=1)(vectors, shares=shares).vector
    assert float((found - mean)[0] ** 2) == pytest.approx(p / (1 - p) * variance)
