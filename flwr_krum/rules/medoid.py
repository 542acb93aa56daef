"""Medoid: the computable relative of the geometric median.

Source: Blanchard et al., NIPS 2017, supplement, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.geometry import rank
from flwr_krum.rules.rule import Choice, Rule
from flwr_krum.updates import Array, ClientUpdates


def medoid_scores(squared: Array) -> Array:
    """Return ``s(i) = sum_j ||V_i - V_j||`` from rows (r, n) of squared distances."""
    scores: Array = np.sqrt(squared).sum(axis=1)
    return scores


@dataclass(frozen=True)
class Medoid(Rule):
    """Return the ``V_i`` that minimises ``sum_j ||V_i - V_j||`` (unsquared); needs no f.

    Ties go to the smallest index. Cost O(n^2 d).

    Examples
    --------
    >>> import numpy as np
    >>> Medoid()(np.array([[0.0], [3.0], [6.0], [10.0], [11.0]])).selected
    (2,)
    """

    def trim(self, n: int) -> int:
        """Trust only the middle: like the median, a medoid bears any minority of liars."""
        return (n - 1) // 2

    def check(self, n: int) -> None:
        """Accept any n >= 1."""

    def choose(self, updates: ClientUpdates, server_round: int) -> Choice:
        """Put all weight on the medoid."""
        ranking = rank(updates, medoid_scores, 1)
        return Choice.uniform(updates.n, ranking.best, ranking.scores)
