"""Squared distances between client updates, with bounds on how wrong they may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64, Indices

UNIT = 2.0**-53
"""Unit roundoff of float64."""

TINY = 2.0**-1074
"""Smallest float64."""

SINGLE_UNIT = 2.0**-24
"""Unit roundoff of float32."""

SINGLE_TINY = 2.0**-149
"""Smallest float32."""


@dataclass(frozen=True)
class Distances:
    """Squared distances (n, n) with ``|squared - exact| <= error``, in units of ``1 / scale^2``.

    Attributes
    ----------
    squared, error : (n, n)
        An infinite distance between finite clients is one that overflows.
    finite : (n,) bool
        False for a client that holds NaN or Inf: it is infinitely far from every other.
    gram : (n, n)
        Inner products of the offsets from the global model, in the same unit.
    dot_error : float
        Accuracy of ``gram`` relative to the product of the two norms; infinite where that is not
        known, as of one that was derived from the distances.
    scale : float
        A power of two, other than 1 only where float64 itself would overflow or underflow.
    coarse : bool
        Whether distances in float64 could be had.
    """

    squared: Float64
    error: Float64
    finite: NDArray[np.bool_]
    gram: Float64
    dot_error: float
    scale: float = 1.0
    coarse: bool = False

    @property
    def is_sharp(self) -> bool:
        """Whether distances and inner products are of float64 quality."""
        return not self.coarse and bool(np.isfinite(self.dot_error))

    def among(self, some: Indices) -> Distances:
        """Return the distances of some clients from each other."""
        block = np.ix_(some, some)
        return replace(
            self,
            squared=self.squared[block],
            error=self.error[block],
            finite=self.finite[some],
            gram=self.gram[block],
        )


@lru_cache(maxsize=8)  # n is the same in most rounds, and NumPy takes longer than to use it
def below_diagonal(n: int) -> NDArray[np.bool_]:
    """Return where in an (n, n) matrix the row is larger than the column; read-only."""
    below = np.tri(n, k=-1, dtype=bool)
    below.setflags(write=False)
    return below
