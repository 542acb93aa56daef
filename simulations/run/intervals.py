"""What the seeds say of a mean: its confidence interval, and whether it keeps bounds.

Only an interval that lies on one side of a bound decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


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
