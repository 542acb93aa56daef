"""What a certificate says, worked out set by set from the models themselves, in 80 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

WIDE = np.longdouble
NOTHING = 2.0**-48


@dataclass(frozen=True)
class Truth:
    """Of all sets of one size: the figures, and the sets that kappa and the radius are from."""

    kappa: np.longdouble
    radius: np.longdouble
    progress: np.longdouble
    margin: np.longdouble
    kappa_set: tuple[int, ...]
    radius_set: tuple[int, ...]


class Round:
    """Rows (n, d) and what was made of them: weights, whose rest lies on the model, or a point."""

    def __init__(self, X, weights=None, model=None, point=None):
        X = X.astype(WIDE)
        self.squared = ((X[:, None] - X) ** 2).sum(axis=-1)
        if point is not None:
            self.offsets = X - point
            self.step = None if model is None else point - model.astype(WIDE)
            return
        w, rest = np.asarray(weights, dtype=WIDE), WIDE(0)
        if abs(1 - math.fsum(weights)) <= NOTHING:
            w = w / w.sum()
        else:
            rest = WIDE(0) + 1
            for x in w:
                rest -= x

        def seen_from(x):
            away = w @ (x - X)
            return away if not rest else away + rest * (x - model.astype(WIDE))

        # Differences first: nothing is lost of rows that are close to each other and far from zero.
        self.offsets = np.stack([seen_from(x) for x in X])
        self.step = None if model is None else -seen_from(model.astype(WIDE))

    def truth(self, m, c=1.0):
        """Return the figures over all sets of m rows."""
        sets = np.array(list(combinations(range(len(self.offsets)), m)), dtype=np.intp)
        means = self.offsets[sets].mean(axis=1)
        off = (means**2).sum(axis=-1)
        pairs = self.squared[sets[:, :, None], sets[:, None, :]]
        spread = pairs.sum(axis=(1, 2)) / (2 * m * m)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = np.where(off == 0, WIDE(0), off / spread)
        progress = margin = WIDE("nan")
        if self.step is not None:
            products = (means + self.step) @ self.step
            progress = products.min()
            if m > 1:
                length = np.sqrt((self.step**2).sum())
                margin = (products - c * length * np.sqrt(spread / (m - 1))).min()
        worst, farthest = (tuple(sets[int(x.argmax())].tolist()) for x in (kappa, off))
        return Truth(kappa.max(), np.sqrt(off.max()), progress, margin, worst, farthest)


def exactly(X, weights, S, model):
    """Return ``||A - mean_S||^2`` and V_S of one set in whole numbers."""
    rows = [[Fraction(float(x)) for x in row] for row in X]
    w = [Fraction(float(x)) for x in weights]
    rest = 1 - sum(w)
    if abs(rest) <= NOTHING:
        w, rest = [x / (1 - rest) for x in w], Fraction(0)
    off = spread = Fraction(0)
    for j in range(X.shape[1]):
        A = sum(x * row[j] for x, row in zip(w, rows, strict=True))
        A += rest * Fraction(float(model[j]))
        values = [rows[i][j] for i in S]
        mean = sum(values) / len(S)
        off += (A - mean) ** 2
        spread += sum((x - mean) ** 2 for x in values) / len(S)
    return off, spread
