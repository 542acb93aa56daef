"""The coordinate-wise median.

Source: Yin, Chen, Kannan, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import WeightedWindow, Window
from flwr_krum.rules.facts import PER_COORDINATE, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class Median(Rule):
    """Return, per coordinate, the middle value, or the mean of the middle two if n is even.

    ``x_k = V_((n+1)/2),k`` for odd n. Cost O(n log n) per coordinate.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f.

    Examples
    --------
    >>> import numpy as np
    >>> Median()(np.array([[0.0], [3.0], [6.0], [10.0], [99.0]])).vector
    array([6.])
    """

    requirement = "2f < n"
    weighs = "copies"
    is_ranking = True
    facts = Facts(
        source="Yin et al. 2018; the median of n values lies among the honest ones for 2f < n",
        breakdown="1/2",
        cost="O(d n log n)",
        invariances=PER_COORDINATE,
        kappa=Kappa("4 (1 + f/(n-2f))^2", "Allouah et al., AISTATS 2023", checked=False),
    )

    @property
    def is_coordinate_wise(self) -> bool:
        """True: each coordinate is sorted by itself."""
        return True

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Average the middle one or two of the sorted values."""
        n = geometry.n
        return Choice.of_sorted(n, Window((n - 1) // 2, n // 2 + 1, 2 - n % 2))

    def weigh(self, geometry: Geometry, server_round: int, shares: Float64) -> Choice:
        """Take the value at which the sum of shares passes 1/2, of two the mean."""
        return Choice.of_sorted(geometry.n, WeightedWindow(tuple(shares.tolist()), 0.5))
