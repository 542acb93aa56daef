"""Kappa of an input by its definition: a look at every set of n - f rows, in plain NumPy."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np


def by_every_set(rows, A, f):
    """Return the largest ratio over all sets of n - f rows, from the definition."""
    n = len(rows)
    sets = np.array(list(combinations(range(n), n - f)))
    worst = 0.0
    for some in np.array_split(sets, math.ceil(len(sets) / 2000)):
        honest = rows[some]
        means = honest.mean(axis=1)
        off = ((A - means) ** 2).sum(axis=1)
        spread = ((honest - means[:, None]) ** 2).sum(axis=2).mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(off > 0.0, off / spread, 0.0)
        worst = max(worst, float(ratios.max()))
    return worst
