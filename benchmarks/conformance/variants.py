"""Rules that deviate from their definition in one named way, as plain loops in float64.

Each is here to say why a library deviates: where the two agree on every input, the name of the
variant is the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conformance.compare import Run
from benchmarks.conformance.samples import Float64

Draw: TypeAlias = Callable[[int], Float64]
"""Maps d to a vector of normal numbers."""

Count: TypeAlias = Callable[[int, int], int]
"""Maps n and f to how many are selected."""

Centre: TypeAlias = Callable[[Float64], Float64]
"""Maps updates (n, d) to a point (d,) amid them."""

Order: TypeAlias = Callable[[Float64, int], NDArray[np.intp]]
"""Maps offsets (n, d) and k to the indices (k, d) of the k smallest of each column."""


def numpy_normal(d: int) -> Float64:
    """Draw from numpy's global generator."""
    return np.random.randn(d)  # noqa: NPY002 - where ByzFL draws


def torch_normal(d: int) -> Float64:
    """Draw from torch's global generator, in float32."""
    return torch.randn(d).double().numpy()


def normal_of_seed_0(d: int) -> Float64:
    """Draw the same every time."""
    return np.random.default_rng(0).normal(size=d)


def _mean(rows: Float64) -> Float64:
    mean_of: Float64 = rows.mean(axis=0)
    return mean_of


def squared_distances(V: Float64) -> Float64:
    """Return (n, n) from differences."""
    squared: Float64 = ((V[:, None] - V[None]) ** 2).sum(axis=2)
    return squared


def one(n: int, f: int) -> int:
    """Select one: Krum."""
    return 1


def all_but_f(n: int, f: int) -> int:
    """Select n - f: Multi-Krum."""
    return n - f


def krum_of(m: Count, more: int = 0, rooted: bool = False) -> Run:
    """Return Multi-Krum with so many more neighbours than n - f - 2.

    Rooted, distances are taken and squared again, which tells apart what is equal.
    """

    def run(V: Float64, f: int) -> Float64:
        n, squared = len(V), squared_distances(V)
        squared = np.sqrt(squared) ** 2 if rooted else squared
        nearest = np.sort(squared, axis=1)[:, 1 : n - f - 1 + more]
        best = np.argsort(nearest.sum(axis=1), kind="stable")[: m(n, f)]
        return _mean(V[best])

    return run


def lower(V: Float64) -> Float64:
    """Return the lower of the two middle values."""
    value: Float64 = np.sort(V, axis=0)[(len(V) - 1) // 2]
    return value


def middle(V: Float64) -> Float64:
    """Return the mean of the two middle values."""
    median: Float64 = np.median(V, axis=0)
    return median


def mean(V: Float64) -> Float64:
    """Return the mean of the clients."""
    return _mean(V)


def origin(V: Float64) -> Float64:
    """Return the zero vector."""
    return np.zeros_like(V[0])


def lower_median(V: Float64, f: int) -> Float64:
    """Return the lower of the two middle values, of the clients' updates."""
    return lower(V)


def by_index(offsets: Float64, count: int) -> NDArray[np.intp]:
    """Take equal ones by their index."""
    return np.argsort(offsets, axis=0, kind="stable")[:count]


def partition(offsets: Float64, count: int) -> NDArray[np.intp]:
    """Take equal ones as numpy's partial sort leaves them."""
    return np.argpartition(offsets, count - 1, axis=0)[:count]


def topk(offsets: Float64, count: int) -> NDArray[np.intp]:
    """Take equal ones as torch's partial sort leaves them."""
    smallest = torch.topk(torch.from_numpy(offsets).float(), count, largest=False, dim=0)
    return smallest.indices.numpy()


def torch_argsort(offsets: Float64, count: int) -> NDArray[np.intp]:
    """Take equal ones as torch's sort leaves them."""
    return torch.argsort(torch.from_numpy(offsets), dim=0)[:count].numpy()


def mean_around_median(centre: Centre, order: Order) -> Run:
    """Return the mean of the n - f values closest to a centre."""

    def run(V: Float64, f: int) -> Float64:
        return _closest(V, centre(V), len(V) - f, order)

    return run


def trimmed_by_share(V: Float64, f: int) -> Float64:
    """Cut int(share n) values on each side, the share being f / n."""
    cut = int(f / len(V) * len(V))
    return _mean(np.sort(V, axis=0)[cut : len(V) - cut])


def _closest(V: Float64, centre: Float64, count: int, order: Order = by_index) -> Float64:
    nearest = order(np.abs(V - centre), count)
    return _mean(np.take_along_axis(V, nearest, axis=0))


def weiszfeld(start: Centre, nu: float, steps: int, tolerance: float = 0.0) -> Run:
    """Return smoothed Weiszfeld steps, until one is no longer than a tolerance."""

    def run(V: Float64, f: int) -> Float64:
        z = start(V)
        for _ in range(steps):
            weights = 1.0 / np.maximum(np.linalg.norm(V - z, axis=1), nu)
            z, before = weights @ V / weights.sum(), z
            if np.linalg.norm(z - before) <= tolerance:
                break
        return z

    return run


def clipping_from_the_mean(tau: float, steps: int) -> Run:
    """Return centred clipping that begins at the mean of the updates."""

    def run(V: Float64, f: int) -> Float64:
        v = _mean(V)
        for _ in range(steps):
            lengths = np.maximum(np.linalg.norm(V - v, axis=1, keepdims=True), 1e-300)
            v = v + _mean((V - v) * np.minimum(1.0, tau / lengths))
        return v

    return run


def _power(V: Float64, shares: Float64, draw: Draw, steps: int) -> tuple[float, Float64]:
    """Return the length of the last power step from a drawn vector, and its direction."""
    vector = draw(V.shape[1])
    vector, value = vector / np.linalg.norm(vector), 0.0
    for _ in range(steps):
        vector = (shares * (V @ vector)) @ V
        value = float(np.linalg.norm(vector))
        vector = vector / value
    return value, vector


def caf_by_power(draw: Draw, steps: int, rayleigh: bool) -> Run:
    """Return CAF with power steps for the top eigenpair, and the maximum over all clients."""

    def run(V: Float64, f: int) -> Float64:
        weights, best, least = np.ones(len(V)), _mean(V), np.inf
        while weights.sum() > len(V) - 2 * f:
            shares = weights / weights.sum()
            mu = shares @ V
            value, vector = _power(V - mu, shares, draw, steps)
            along = ((V - mu) @ vector) ** 2
            value = float(shares @ along) if rayleigh else value
            if value < least:
                best, least = mu, value
            if along.max() <= 1e-12:
                break
            weights = weights * (1.0 - along / along.max())
        return best

    return run


def smea_by_power(draw: Draw) -> Run:
    """Return SMEA with a single power step for the largest eigenvalue."""

    def run(V: Float64, f: int) -> Float64:
        def size(subset: Sequence[int]) -> float:
            chosen = V[list(subset)]
            return _power(chosen - chosen.mean(axis=0), np.ones(len(chosen)), draw, 1)[0]

        best = min(combinations(range(len(V)), len(V) - f), key=size)
        return _mean(V[list(best)])

    return run


def bulyan_of_one_ranking(V: Float64, f: int) -> Float64:
    """Select the n - 2f best of a single Krum ranking."""
    n = len(V)
    nearest = np.sort(squared_distances(V), axis=1)[:, 1 : n - f - 1]
    selected = V[np.argsort(nearest.sum(axis=1), kind="stable")[: n - 2 * f]]
    return _closest(selected, np.median(selected, axis=0), n - 4 * f)


def bulyan_of_means(m: Count) -> Run:
    """Select n - 2f - 2 Multi-Krum means, and trim f of them on each side."""

    def run(V: Float64, f: int) -> Float64:
        left = list(range(len(V)))
        rows: list[Float64] = []
        while len(rows) < len(V) - 2 * f - 2:
            r = len(left)
            nearest = np.sort(squared_distances(V[left]), axis=1)[:, 1 : r - f - 1]
            order = np.argsort(nearest.sum(axis=1), kind="stable")
            chosen = V[left][order[: min(m(len(V), f), r - f - 2)]]
            rows.append(chosen.mean(axis=0))
            closest = int(np.linalg.norm(chosen - rows[-1], axis=1).argmin())
            left.pop(int(order[closest]))
        return _mean(np.sort(rows, axis=0)[f : len(rows) - f])

    return run
