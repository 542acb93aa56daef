"""Bounds on maxima over all sets of m = n - k clients, where there are too many to look at each.

With ``H_ij = (h_i + h_j - D_ij) / 2`` and 1_S the indicator of a set::

    m^2 ||A - mean_S||^2 = 1_S' H 1_S        m T_S = sum of h over S

and for any symmetric Q, as ``1_S = (m/n) 1 + u`` with u orthogonal to 1 and ``||u||^2 = m k / n``::

    1_S' Q 1_S  <=  2 (m/n) sum over S of (Q1)_i  -  (m/n)^2 1'Q1  +  lambda m k / n

where lambda is the largest eigenvalue of Q on vectors orthogonal to 1. The first sum is largest for
the m largest of its terms. All holds for any h from above and D from below, whether or not there
are points with these distances.
"""

from __future__ import annotations

import math

import numpy as np

from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.distances import UNIT

STEPS = 14
"""Eigenvalues that `ratio_bound` takes at most."""

STARTS = 24
"""Sets that `far_sets` starts from."""


def products(low: Float64, heights: Float64) -> Float64:
    """Return H (n, n)."""
    H: Float64 = 0.5 * (heights[:, None] + heights[None, :] - low)
    return H


def off_mean_bounds(low: Float64, heights: Float64, most: int) -> Float64:
    """Return bounds on ``max ||A - mean_S||^2`` over the sets that leave out k = 0..most clients.

    Never too small, and none larger than the next: a set of more clients is no farther off.

    Parameters
    ----------
    low : (n, n)
        Squared distances, never too large.
    heights : (n,)
        Squared distances from A, never too small.
    most : int
        Less than n.
    """
    n = len(low)
    H = products(low, heights)
    sizes = n - np.arange(most + 1.0)
    sums = H.sum(axis=1)
    largest = np.cumsum(np.sort(sums)[::-1])[n - most - 1 :][::-1]
    total = float(sums.sum())
    by_eigenvalue = 2.0 * sizes / n * largest - (sizes / n) ** 2 * total
    by_eigenvalue += _largest_eigenvalue(-0.5 * low) * sizes * (n - sizes) / n
    by_rows = _row_bounds(H, most)
    spare = 64.0 * n * n * UNIT * float(np.abs(H).max())
    squared = (np.minimum(by_eigenvalue, by_rows) + spare) / sizes**2
    bounds: Float64 = np.minimum.accumulate(np.maximum(squared, 0.0)[::-1])[::-1]
    return bounds


def _row_bounds(H: Float64, most: int) -> Float64:
    """Return the sums of the m largest of ``H_ii + (the m - 1 largest H_ij of other j)``."""
    n = len(H)
    own = np.diagonal(H)
    others = H[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    others.sort(axis=1)
    above = np.zeros((n, n))
    np.cumsum(others[:, ::-1], axis=1, out=above[:, 1:])
    rows = np.sort(above[:, n - most - 1 :] + own[:, None], axis=0)[::-1]
    sums = np.cumsum(rows, axis=0)
    sizes = np.arange(n - most, n + 1)
    bounds: Float64 = sums[sizes - 1, sizes - (n - most)][::-1]
    return bounds


def _largest_eigenvalue(Q: Float64) -> float:
    """Return a bound, at least 0, on the largest eigenvalue of Q on vectors orthogonal to 1."""
    n = len(Q)
    means = Q.mean(axis=0)
    inner = Q - means[:, None] - means[None, :] + means.mean()
    spare = 64.0 * n * UNIT * math.sqrt(float((Q * Q).sum()))
    return max(0.0, float(np.linalg.eigvalsh(inner)[-1])) + spare


def _raised(heights: Float64) -> Float64:
    # A zero has no direction; what is almost there is given a length, which only loosens a bound.
    positive = heights[heights > 0.0]
    least = 1e-6 * np.sort(positive)[positive.size // 2] if positive.size else 1.0
    raised: Float64 = np.maximum(heights, least)
    return raised


def cosine_bound(low: Float64, heights: Float64) -> float:
    """Return lambda with ``1_S' H 1_S <= lambda sum over S of h`` for every set S.

    The largest eigenvalue of ``H_ij / sqrt(h_i h_j)``: it does not depend on any client's distance
    alone, and is loose where some clients are at one place.
    """
    raised = _raised(heights)
    roots = 1.0 / np.sqrt(raised)
    C = products(low, raised) * roots[:, None] * roots[None, :]
    spare = 64.0 * len(C) * UNIT * math.sqrt(float((C * C).sum()))
    return float(np.linalg.eigvalsh(C)[-1]) + spare


def quick_off_mean_bounds(heights: Float64, most: int, cosine: float) -> Float64:
    """Return bounds as `off_mean_bounds` does, looser and without another eigenvalue.

    Parameters
    ----------
    cosine : float
        From `cosine_bound`.
    """
    tallest = np.cumsum(np.sort(_raised(heights))[::-1])[len(heights) - most - 1 :][::-1]
    bounds: Float64 = cosine * tallest / (len(heights) - np.arange(most + 1.0)) ** 2
    return bounds


def ratio_bound(low: Float64, heights: Float64, k: int, cosine: float) -> float:
    """Return rho with ``||A - mean_S||^2 <= rho T_S`` for the sets that leave out k clients.

    Of ``1_S' H 1_S / m^2 - rho T_S`` a part s of rho goes into Q, the rest into the sum over S.
    Where s is ``cosine / m`` Q has no positive eigenvalue left; where it is 0, far clients have all
    of their weight in it. The best s is searched for.

    Parameters
    ----------
    low : (n, n)
        Squared distances, never too large.
    heights : (n,)
        Squared distances from A, never too small.
    k : int
        In ``0..n - 1``.
    cosine : float
        From `cosine_bound`.
    """
    n, m = len(low), len(low) - k
    raised = _raised(heights)
    H = products(low, raised) / m**2
    own = raised / m
    spare = 64.0 * n * n * UNIT * float(np.abs(H).max())
    best = limit = min(1.0, cosine / m)

    def bound(s: float) -> float:
        Q = H.copy()
        Q[np.diag_indices(n)] -= s * own
        sums = Q.sum(axis=1)
        rest = spare + _largest_eigenvalue(Q) * m * k / n - (m / n) ** 2 * float(sums.sum())
        return _least_share(2.0 * (m / n) * sums, own, rest, s, limit, m)

    # Golden section: the bound is the least of functions that are convex in s.
    a, b, golden = 0.0, limit, 0.6180339887498949
    x, y = b - golden * (b - a), a + golden * (b - a)
    at_x, at_y = bound(x), bound(y)
    for _ in range(STEPS - 2):
        best = min(best, at_x, at_y)
        if at_x <= at_y:
            b, y, at_y = y, x, at_x
            x = b - golden * (b - a)
            at_x = bound(x)
        else:
            a, x, at_x = x, y, at_y
            y = a + golden * (b - a)
            at_y = bound(y)
    return min(best, at_x, at_y)


def _least_share(
    terms: Float64, own: Float64, rest: float, s: float, limit: float, m: int
) -> float:
    """Return the least rho with ``rest + sum of the m largest of terms - (rho - s) own <= 0``.

    In ``[s, limit]``; the limit where there is none. What is summed is a largest of lines: where
    the one that is largest now meets zero, another may be larger, until none is.
    """
    rho = s
    while rho < limit:
        largest = np.argpartition(terms - (rho - s) * own, len(terms) - m)[len(terms) - m :]
        met = s + (rest + float(terms[largest].sum())) / float(own[largest].sum())
        if met <= rho:
            return rho
        rho = met
    return limit


def far_set(low: Float64, heights: Float64, k: int) -> Indices:
    """Return a set that leaves out k clients, and of large ratio ``T_S / V_S``; no bound.

    From the clients nearest to some clients and those farthest out in their directions, to the
    largest terms of what is linear about a set, as long as that leads anywhere: 1_S'H 1_S is
    convex in 1_S.
    """
    n, m = len(low), len(low) - k
    H = products(low, heights)
    some = slice(None, None, max(1, n // STARTS))
    keys = np.concatenate([low[some], -H[some], -H.sum(axis=1)[None, :]])
    near = np.argsort(keys, axis=1, kind="stable")[:, :m]
    best, rho = near[0], -1.0
    for _ in range(12):
        inside = np.zeros((len(near), n))
        np.put_along_axis(inside, near, 1.0, axis=1)
        reach = inside @ H
        sums = inside @ heights
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.einsum("sn,sn->s", reach, inside) / (m * sums)
        ratios[~(sums > 0.0)] = 0.0
        top = int(np.argmax(ratios))
        if not ratios[top] > rho:
            break
        best, rho = near[top], float(ratios[top])
        gain = 2.0 * reach - rho * m * heights
        near = np.argsort(-gain, axis=1, kind="stable")[:, :m]
    return np.sort(best)
