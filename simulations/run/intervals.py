"""What the seeds say of a mean: its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its confidence interval."""

    mean: float
    low: float
    high: float


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
