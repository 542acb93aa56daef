"""The sets of clients for which an aggregate looks worst, of all that leave out k of n.

Exact where there are few enough sets to look at each, else by bounds; see `kernel.enclosure` for
h, D, T_S and V_S.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.enclosure import Enclosure
from flwr_krum.kernel.subset_bounds import (
    cosine_bound,
    far_set,
    off_mean_bounds,
    quick_off_mean_bounds,
    ratio_bound,
)
from flwr_krum.kernel.subsets import Halves, most_left_out


class Figures(NamedTuple):
    """Kappa and the squared radius by the number of liars, and the worst set found at f."""

    kappa: Float64
    off: Float64
    exact: NDArray[np.bool_]
    worst: Indices


def figures_of(found: Enclosure, f: int, most_sets: int, enough: float) -> Figures:
    """Return what is certain by the number of liars.

    Parameters
    ----------
    enough : float
        Where a bound on kappa at f is not larger, no set is looked at; -inf to look at all.
    """
    n, low, heights = found.n, found.low_of_clients, found.heights_high[: found.n]
    numbers = np.arange((n + 1) // 2)
    top = most_left_out(n, most_sets)
    kappa, off = np.full(len(numbers), np.inf), np.full(len(numbers), np.inf)
    exact, worst, cosine = np.zeros(len(numbers), dtype=bool), np.empty(0, dtype=np.intp), math.inf
    is_brief = enough > -math.inf
    if is_brief or top < numbers[-1]:
        cosine = cosine_bound(low, heights)
        kappa = _kappa_of(cosine / (n - numbers) + found.room)
        if is_brief:
            off = quick_off_mean_bounds(heights, len(numbers) - 1, cosine)
        else:
            off = off_mean_bounds(low, heights, len(numbers) - 1)
    is_open = f < len(numbers) and kappa[f] > enough
    looked_at = range(top + 1)
    if is_brief:
        looked_at = range(f, f + 1) if is_open and f <= top else range(0)
    if looked_at:
        halves = Halves(low, looked_at[-1])
        sums = halves.sums(heights)
        for k in looked_at:
            kappa[k], off[k], members = _extremes(halves, sums, n - k, k)
            exact[k] = True
            worst = members if k == f else worst
    if is_open and not exact[f]:
        share = np.array([ratio_bound(low, heights, f, cosine) + found.room])
        kappa[f], worst = min(kappa[f], _kappa_of(share)[0]), far_set(low, heights, f)
    # What is true of more liars is true of fewer.
    least_kappa, least_off = (np.minimum.accumulate(x[::-1])[::-1] for x in (kappa, off))
    return Figures(least_kappa, least_off, exact, worst)


def _kappa_of(share: Float64) -> Float64:
    """Return ``x / (1 - x)``, where ``||A - mean_S||^2 <= x T_S``; infinite from 1 on."""
    kappa: Float64 = np.where(share < 1.0, share / (1.0 - share), np.inf)
    return kappa


def _extremes(
    halves: Halves, sums: tuple[Float64, Float64], m: int, k: int
) -> tuple[float, float, Indices]:
    """Return the largest kappa and squared radius over sets of m, and the set of that kappa."""
    largest, off, worst = -1.0, 0.0, np.empty(0, dtype=np.intp)
    for block in halves.leaving(k):
        heights = sums[0][block.left, None] + sums[1][block.right]
        ratios = heights / block.pairs
        ratios[heights == 0.0] = 0.0
        place = int(ratios.argmax())
        if (ratio := float(ratios.flat[place])) > largest:
            largest, worst = ratio, halves.members(block, place)
        np.multiply(block.pairs, 0.5 / m, out=block.pairs)
        heights -= block.pairs
        off = max(off, float(heights.max()))
    return max(0.0, 2.0 * m * largest - 1.0), off / m, worst


def clears(found: Enclosure, products: Float64, penalty: float, f: int, most_sets: int) -> bool:
    """Say whether the mean of products exceeds ``penalty sqrt(V_S)`` for every set of n - f."""
    n, high = found.n, found.high[: found.n, : found.n]
    m = n - f
    penalty *= 1.0 + found.room
    rows = np.sort(np.sort(high, axis=1)[:, f:].sum(axis=1))[f:]
    widest = math.sqrt(float(rows.sum()) / 2.0) / m
    if float(np.sort(products)[:m].mean()) > penalty * widest:
        return True
    if f > most_left_out(n, most_sets):
        return False
    halves = Halves(high, f)
    left, right = halves.sums(products)
    return all(
        bool(
            (
                left[block.left, None] + right[block.right] > penalty * np.sqrt(block.pairs / 2.0)
            ).all()
        )
        for block in halves.leaving(f)
    )
