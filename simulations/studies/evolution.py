"""A search for the largest value of a function that has edges: no derivative, no continuity asked.

Source: Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772; its default constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from flwr_krum.kernel.arrays import Float64

Value = Callable[[Float64], float]

NARROWEST = 1e-12
"""Steps shorter than this change nothing."""

TINY = 1e-300


@dataclass(frozen=True)
class Constants:
    """What is decided by the number k of parameters: the tutorial's table 1, in its letters."""

    draws: int
    weights: Float64
    mu: float
    c_path: float
    c_step: float
    c_one: float
    c_many: float
    damping: float
    usual: float

    @classmethod
    def of(cls, k: int) -> Self:
        """Return the defaults for k parameters."""
        draws = 4 + int(3.0 * math.log(k))
        weights = math.log((draws + 1) / 2) - np.log(np.arange(1, draws // 2 + 1))
        weights /= weights.sum()
        mu = float(1.0 / (weights**2).sum())
        c_step = (mu + 2.0) / (k + mu + 5.0)
        c_one = 2.0 / ((k + 1.3) ** 2 + mu)
        return cls(
            draws=draws,
            weights=weights,
            mu=mu,
            c_path=(4.0 + mu / k) / (k + 4.0 + 2.0 * mu / k),
            c_step=c_step,
            c_one=c_one,
            c_many=min(1.0 - c_one, 2.0 * (mu - 2.0 + 1.0 / mu) / ((k + 2.0) ** 2 + mu)),
            damping=1.0 + c_step + 2.0 * max(0.0, math.sqrt((mu - 1.0) / (k + 1.0)) - 1.0),
            usual=math.sqrt(k) * (1.0 - 1.0 / (4.0 * k) + 1.0 / (21.0 * k**2)),
        )


def climb(
    value: Value, start: Float64, step: float, most: int, rng: np.random.Generator
) -> tuple[Float64, float]:
    """Return the best parameters (k,) that were tried, and their value.

    Parameters
    ----------
    value : callable, (k,) -> float
        Minus infinity where there is none.
    start : (k,)
    step : float
        How far from the start the first draws are, about.
    most : int
        Values that may be asked for; the first is that of the start.
    rng : Generator
    """
    k = len(start)
    c = Constants.of(k)
    centre, covariance = start, np.eye(k)
    path, step_path = np.zeros(k), np.zeros(k)
    best, most_found = start, value(start)
    for _ in range((most - 1) // c.draws):
        if step < NARROWEST:
            break
        variances, axes = np.linalg.eigh(covariance)
        lengths = np.sqrt(np.maximum(variances, TINY))
        moves = (rng.standard_normal((c.draws, k)) * lengths) @ axes.T
        values = np.array([value(centre + step * move) for move in moves])
        order = np.argsort(-values, kind="stable")[: len(c.weights)]
        if values[order[0]] > most_found:
            best, most_found = centre + step * moves[order[0]], float(values[order[0]])
        chosen = moves[order]
        move = c.weights @ chosen
        centre = centre + step * move
        whitened = axes @ ((axes.T @ move) / lengths)
        step_path = _faded(step_path, whitened, c.c_step, c.mu)
        path = _faded(path, move, c.c_path, c.mu)
        covariance = (
            (1.0 - c.c_one - c.c_many) * covariance
            + c.c_one * np.outer(path, path)
            + c.c_many * (chosen.T * c.weights) @ chosen
        )
        longer = float(np.linalg.norm(step_path)) / c.usual - 1.0
        step *= math.exp(min(1.0, c.c_step / c.damping * longer))
    return best, most_found


def _faded(path: Float64, move: Float64, rate: float, mu: float) -> Float64:
    """Return a path that forgets at a rate, and keeps its length where moves are random."""
    faded: Float64 = (1.0 - rate) * path + math.sqrt(rate * (2.0 - rate) * mu) * move
    return faded
