"""Comparative gradient elimination: the longest updates are left out.

Source: Gupta, Liu, Vaidya, "Byzantine Fault-Tolerant Distributed Machine Learning using D-SGD and
Norm-Based Comparative Gradient Elimination", 2021 (there the kept gradients are summed; here they
are averaged).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import AROUND_MODEL, Facts
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class CGE(Rule):
    """Return the mean of the n - f shortest updates, ties to the smallest index.

    Lengths are those of the updates, not of the models. A short lie is never left out: the error
    has no bound in units of the honest clients' spread.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f; at least one update is kept.

    Examples
    --------
    >>> import numpy as np
    >>> CGE(f=1)(np.array([[1.0], [2.0], [-9.0]])).vector
    array([1.5])
    """

    requirement = "2f < n"
    facts = Facts(
        source="f are left out; the longest that is left is no longer than an honest one",
        breakdown="1/2",
        cost="O(n^2 d); O(n d) would do",
        invariances=AROUND_MODEL,
        kappa="none can exist: a short lie is never left out",
    )

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh the shortest alike."""
        n = geometry.n
        order = np.argsort(geometry.norms, kind="stable")
        return Choice.uniform(n, order[: max(1, n - self.liars(n))].tolist())
