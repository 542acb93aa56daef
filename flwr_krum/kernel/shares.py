"""Shares of declared weights: how much f of n sites can hold, and the cap that bounds it.

Source of the cap: Portnoy, Tirosh, Hendler, "Towards Federated Learning With Byzantine-Robust
Client Weighting", arXiv 2004.04986 (its abstract was read), here for f sites instead of a fraction.
That the share grows with the cap, and the bounds that rest on it, are shown in docs/weights.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flwr_krum.kernel.arrays import Float64

SLIVER: Final = 1e-12
"""A share so small is rounding: times a liar's 1e300 it would be the whole result."""


def heaviest(weights: Float64, f: int) -> float:
    """Return ``W_f``, the share that the f largest of n weights have of their sum."""
    if f == 0:
        return 0.0
    relative = np.sort(weights / weights.max())
    return float(relative[-f:].sum() / relative.sum())


def largest_cap(weights: Float64, f: int, target: float) -> float | None:
    """Return the largest U with ``W_f(min(w, U)) <= target``; None where there is none.

    The share grows with U, from f / n where all weights are cut to the smallest. Between two
    neighbouring weights it is a ratio of two lines, which is solved for U. Cost O(n log n).

    Parameters
    ----------
    weights : (n,)
        Positive.
    f : int
    target : float
        Share, in (0, 1).

    Returns
    -------
    float or None
        The largest weight where nothing has to be cut.
    """
    n, unit = len(weights), float(weights.max())
    if heaviest(weights, f) <= target:
        return unit
    if f / n > target:
        return None
    ordered = np.sort(weights / unit)
    legal, too_large = 0, n - 1
    while too_large - legal > 1:
        middle = (legal + too_large) // 2
        is_legal = heaviest(np.minimum(ordered, ordered[middle]), f) <= target
        legal, too_large = (middle, too_large) if is_legal else (legal, middle)
    cut, uncut = n - 1 - legal, ordered[: legal + 1]
    if cut >= f:  # the f heaviest are all cut: f U = target (sum of the uncut + cut U)
        U = target * uncut.sum() / (f - target * cut)
    else:  # so are some of them: cut U + rest = target (sum of the uncut + cut U)
        rest = uncut[len(uncut) - (f - cut) :].sum()
        U = (target * uncut.sum() - rest) / (cut * (1.0 - target))
    return float(np.clip(U, ordered[legal], ordered[too_large])) * unit


def capped(weights: Float64, largest: float) -> Float64:
    """Return the shares (n,), of sum 1, of the weights cut at the largest."""
    cut = np.minimum(weights, largest) / largest
    shares: Float64 = cut / cut.sum()
    return shares


def are_alike(shares: Float64) -> bool:
    """Say whether all shares are equal."""
    return bool((shares == shares[0]).all())


def taken(shares: Float64, first: float, last: float) -> Float64:
    """Return what is taken, of sum 1, of shares in a row between two places of their sum.

    A share that lies across a place counts in part.

    Parameters
    ----------
    shares : (k, ...)
        In order along the first axis, of sum 1.
    first, last : float
        ``0 <= first < last <= 1``.
    """
    above = np.cumsum(shares, axis=0)
    take = np.minimum(above, last) - np.maximum(above - shares, first)
    take[take < SLIVER] = 0.0
    result: Float64 = take / np.cumsum(take, axis=0)[-1]
    return result
