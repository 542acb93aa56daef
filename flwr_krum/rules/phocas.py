"""The coordinate-wise mean around the trimmed mean.

Source: Xie, Koyejo, Gupta, "Phocas: Dimensional Byzantine-Resilient Stochastic Gradient Descent",
2018.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import Window
from flwr_krum.rules.facts import PER_COORDINATE, Facts
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class Phocas(Rule):
    """Return, per coordinate, the mean of the n - f values closest to the f-trimmed mean.

    ``x_k = 1/(n - f) sum_{i near t_k} V_i,k`` with ``t_k = 1/(n - 2f) sum_{i = f+1}^{n-f}
    V_(i),k``. Of two values that are equally close the smaller one counts, so that the n - f
    values are neighbours in the sorted order. Cost O(n log n) per coordinate.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f, of which at most (n - 1) // 2 values are cut at each end; at
        least one value is kept.

    Raises
    ------
    ValueError
        If f is no integer >= 0 or, when called, illegal for n.

    Examples
    --------
    >>> import numpy as np
    >>> Phocas(f=1)(np.array([[0.0], [1.0], [5.0], [6.0]])).vector
    array([2.])
    """

    requirement = "2f < n"
    is_ranking = True
    facts = Facts(
        source="as for the trimmed mean",
        breakdown="1/2",
        cost="O(d n log n)",
        invariances=PER_COORDINATE,
    )

    @property
    def is_coordinate_wise(self) -> bool:
        """True: each coordinate is sorted by itself."""
        return True

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Average the n - f sorted values that are closest to the trimmed mean."""
        n = geometry.n
        f = self.liars(n)
        return Choice.of_sorted(n, Window(0, n, max(1, n - f), min(f, (n - 1) // 2)))
