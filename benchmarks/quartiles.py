"""Medians with their quartiles, ratios of two sets of runs, and projections to a larger size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quartiles:
    """A median between its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}-{number(self.high)})"


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the median and the quartiles of some values.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not values:
        raise ValueError("no values, expected at least 1")
    low, median, high = np.percentile(values, (25, 50, 75))
    return Quartiles(float(median), float(low), float(high))


def ratio(slower: Sequence[float], faster: Sequence[float]) -> Quartiles:
    """Return the quartiles of all quotients of a run of one and a run of the other."""
    return quartiles((np.array(slower)[:, None] / np.array(faster)).ravel().tolist())


def project(measured: Mapping[tuple[int, int], float], n: int, d: int, power: float) -> float:
    """Project seconds to (n, d) from the nearest measured size, as ``n^power d``.

    Returns
    -------
    float
        0 where nothing was measured: then nothing is known against trying.
    """

    def steps(size: tuple[int, int]) -> tuple[float, float]:
        return power * math.log(n / size[0]), math.log(d / size[1])

    if not measured:
        return 0.0
    nearest = min(measured, key=lambda size: sum(map(abs, steps(size))))
    return measured[nearest] * math.exp(sum(steps(nearest)))


def number(value: float) -> str:
    """Write a number with as many digits as a measurement deserves."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def size(count: int) -> str:
    """Write a number of clients or coordinates in short: 250000 as 2.5e5."""
    return str(count) if count < 10_000 else f"{count:.3g}".replace("e+0", "e")
