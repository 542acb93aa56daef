"""Nearest-neighbour mixing: every update becomes the mean of those around it.

Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by Mixing: A Recipe for
Optimal Byzantine ML under Heterogeneity", AISTATS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.shares import heaviest, taken
from flwr_krum.rules.facts import ALL, Facts, Kappa
from flwr_krum.rules.mixing import Mixing


@dataclass(frozen=True)
class NearestNeighborMixing(Mixing):
    """Replace every update by the mean of the n - f updates closest to it, its own among them.

    ``y_i = 1/(n - f) sum_{j near i} V_j``. An update is its own nearest neighbour, whatever equals
    it; other ties go to the smallest index. Cost O(n^2 log n) on the distances.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is as many as the rule behind tolerates.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_krum.rules import Median
    >>> chain = NearestNeighborMixing(f=1) | Median()
    >>> chain(np.array([[0.0], [2.0], [4.0], [99.0]])).vector
    array([2.])
    """

    requirement = "2f < n"
    weighs = True
    facts = Facts(
        source="Allouah et al., AISTATS 2023",
        breakdown="1/2, or that of the rule behind",
        cost="O(n^2 d + n^3)",
        invariances=ALL,
        kappa=Kappa(
            "8f/(n-f) (kappa + 1), kappa that of the rule behind",
            "Allouah et al., AISTATS 2023",
            checked=False,
        ),
    )

    @property
    def is_ranking(self) -> bool:
        """True: it ranks the neighbours of each row."""
        return True

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return rows of 1/(n - f) at the neighbours."""
        n = geometry.n
        keep = max(1, n - (self.f or 0))
        nearest = _nearest(geometry, keep)
        M = np.zeros((n, n))
        np.put_along_axis(M, nearest, 1.0 / keep, axis=1)
        return M

    def weighed(self, geometry: Geometry, shares: Float64) -> Float64:
        """Return rows of the shares of the neighbours, up to ``1 - W_f``, the last one in part."""
        nearest = _by_distance(geometry.squared)
        take = taken(shares[nearest].T, 0.0, 1.0 - heaviest(shares, self.f or 0)).T
        M = np.zeros((geometry.n, geometry.n))
        np.put_along_axis(M, nearest, take, axis=1)
        return M


def _nearest(geometry: Geometry, keep: int) -> Indices:
    """Return, for each row (n, keep), the nearest ones: by rough distances where these decide."""
    rough = geometry.rough()
    for _ in range(2):
        if rough is None:
            break
        nearest, doubtful = _nearest_of_rough(*rough, keep)
        if not doubtful.size:
            return nearest
        rough = geometry.rough(doubtful)
    return _by_distance(geometry.squared)[:, :keep]


def _nearest_of_rough(squared: Float64, error: Float64, keep: int) -> tuple[Indices, Indices]:
    """Return for each row (n, keep) the nearest ones, and for which rows that is not certain."""
    order = _by_distance(squared)
    least = np.take_along_axis(squared - error, order, axis=1)[:, keep:]
    most = np.take_along_axis(squared + error, order, axis=1)[:, :keep]
    certain = most.max(axis=1) < least.min(axis=1, initial=np.inf)
    return order[:, :keep], np.flatnonzero(~certain)


def _by_distance(squared: Float64) -> Indices:
    """Return, for each row (n, n), all rows from the nearest, itself, to the farthest."""
    apart = squared.copy()
    np.fill_diagonal(apart, -1.0)
    order: Indices = np.argsort(apart, axis=1, kind="stable")
    return order
