"""The coordinate-wise mean around the median.

Source: Xie, Koyejo, Gupta, "Generalized Byzantine-tolerant SGD", 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import Window
from flwr_krum.rules.facts import PER_COORDINATE, Facts
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class MeaMed(Rule):
    """Return, per coordinate, the mean of the n - f values closest to the median.

    Of two values that are equally close the smaller one counts, so that the n - f values are
    neighbours in the sorted order. Cost O(n log n) per coordinate.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f; at least one value is kept.

    Examples
    --------
    >>> import numpy as np
    >>> MeaMed(f=1)(np.array([[0.0], [1.0], [2.0], [3.0]])).vector
    array([1.])
    """

    requirement = "2f < n"
    is_ranking = True
    facts = Facts(
        source="as for the median",
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
        """Average the n - f sorted values that are closest to the median."""
        n = geometry.n
        return Choice.of_sorted(n, Window(0, n, max(1, n - self.liars(n))))
