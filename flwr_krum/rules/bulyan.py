"""Bulyan: Krum selects again and again, then each coordinate is averaged around its median.

Source: El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in
Byzantium", ICML 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import Window
from flwr_krum.rules.facts import Facts
from flwr_krum.rules.krum import krum_scores
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class Bulyan(Rule):
    """Return, per coordinate, the mean of the values closest to the median of those selected.

    ``theta = n - 2f`` times Krum takes one of the r vectors that remain, with ``r - f - 2``
    neighbours; of the theta selected values of a coordinate the ``theta - 2f`` closest to their
    median are averaged. In the last rounds fewer remain than Krum needs: there is at least one
    neighbour, as in Flower's own. Cost: one distance matrix, and O(n^3) more.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``4f + 3 <= n``; None is (n - 3) // 4.
    strict : bool
        False allows an illegal f.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.array([[-2.0], [2.0], [3.0], [-5.0], [-3.0], [-8.0], [-7.0]])
    >>> Bulyan(f=1)(V).selected
    (3, 0, 6, 1, 4)
    """

    requirement = "n >= 4f + 3"
    facts = Facts(
        source="El Mhamdi et al. 2018",
        breakdown="1/4",
        cost="O(n^2 d + n^3), and O(d n log n)",
        invariances=("translation", "scaling", "negation"),
    )

    @property
    def is_coordinate_wise(self) -> bool:
        """True: each coordinate is sorted by itself."""
        return True

    def least(self, f: int) -> int:
        """Return ``4f + 3``."""
        return 4 * f + 3

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Select theta clients one by one, and average the middle of each coordinate."""
        n, squared = geometry.n, geometry.squared
        f = self.liars(n)
        theta = max(1, n - 2 * f)
        left = list(range(n))
        selected: list[int] = []
        while len(selected) < theta:
            neighbours = max(1, len(left) - f - 2)
            scores = krum_scores(squared[np.ix_(left, left)], neighbours)
            selected.append(left.pop(int(np.argmin(scores))))
        return Choice.of_sorted(n, Window(0, theta, max(1, theta - 2 * f)), selected)
