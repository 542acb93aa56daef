"""What the seeds say of a mean or a share: its interval, whether it keeps bounds, how many tell.

Only an interval that lies on one side of a bound decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import betaincinv, stdtrit

CONFIDENCE = 0.95

POWER = 0.9
"""How often a number of seeds that is asked for would tell."""

MOST_SEEDS = 1000
"""More are not asked for."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its confidence interval."""

    mean: float
    low: float
    high: float


class Outcome(StrEnum):
    """What became of a check or a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    PARTLY = "holds only for"
    UNKNOWN = "cannot be told"


def outcome_of(interval: Interval | None, at_least: float, at_most: float) -> Outcome:
    """Say whether a mean keeps its bounds: its whole interval must, or break one.

    Examples
    --------
    >>> outcome_of(Interval(0.2, 0.1, 0.3), 0.0, math.inf)
    <Outcome.HOLDS: 'holds'>
    """
    if interval is None:
        return Outcome.UNKNOWN
    if at_least <= interval.low and interval.high <= at_most:
        return Outcome.HOLDS
    if interval.high < at_least or interval.low > at_most:
        return Outcome.FAILS
    return Outcome.UNKNOWN


def t_interval(values: Sequence[float], logarithmic: bool = False) -> Interval | None:
    """Return the mean and its two-sided 95 % Student t interval; None for fewer than two values.

    Parameters
    ----------
    values : sequence of float
        One number per seed.
    logarithmic : bool
        Take logarithms first: a geometric mean, and an interval for ratios.
    """
    if len(values) < 2:
        return None
    x = np.log(values) if logarithmic else np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    reach = float(stdtrit(len(x) - 1, (1 + CONFIDENCE) / 2)) * error
    ends = (mean, mean - reach, mean + reach)
    return Interval(*(math.exp(end) for end in ends)) if logarithmic else Interval(*ends)


def share_interval(outcomes: Sequence[bool]) -> Interval | None:
    """Return the share of true outcomes and its exact 95 % interval; None without any.

    Clopper and Pearson's (Biometrika 26, 1934): it holds for any number of outcomes, also where
    all are alike.
    """
    n, k = len(outcomes), sum(outcomes)
    if n == 0:
        return None
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(k / n, low, high)


def seeds_to_tell(values: Sequence[float], bounds: Sequence[float]) -> int:
    """Return how many fresh seeds would tell on which side of the bounds a mean lies.

    The smallest n whose t interval leaves out the nearest bound in 90 % of all cases, if mean and
    standard deviation s are those of the values::

        n >= ((t_{n-1}(0.975) + t_{n-1}(0.9)) s / |mean - bound|)^2

    Parameters
    ----------
    values : sequence of float, two or more
        One number per seed that was run.
    bounds : sequence of float
        The finite ones, at least one.

    Returns
    -------
    int
        At most `MOST_SEEDS`, which stands for all that are more.
    """
    x = np.asarray(values, dtype=np.float64)
    mean, deviation = float(x.mean()), float(x.std(ddof=1))
    gap = min(abs(mean - bound) for bound in bounds)
    for n in range(2, MOST_SEEDS):
        reach = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) + stdtrit(n - 1, POWER))
        if reach * deviation <= gap * math.sqrt(n):
            return n
    return MOST_SEEDS
