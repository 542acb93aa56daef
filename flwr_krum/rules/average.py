"""Averaging: the linear rule that one Byzantine client can steer anywhere.

Source: Blanchard et al., NIPS 2017, Lemma 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts
from flwr_krum.rules.rule import Choice, Rule, Weighs


@dataclass(frozen=True)
class Average(Rule):
    """Return the unweighted mean ``(1/n) sum_i V_i``; tolerates no Byzantine client (Lemma 1).

    Examples
    --------
    >>> import numpy as np
    >>> Average()(np.array([[0.0], [3.0], [6.0]])).vector
    array([3.])
    """

    weighs: ClassVar[Weighs | None] = "selected"
    is_ranking = True
    facts = Facts(
        source="Blanchard et al. 2017, Lemma 1: it bears no liar",
        breakdown="0",
        cost="O(n d)",
        invariances=ALL,
        kappa="none for f >= 1 (Lemma 1)",
    )

    def least(self, f: int) -> int:
        """Return 1: it runs whatever f is, and bears none."""
        return 1

    def most(self, n: int) -> int:
        """Return 0 (Lemma 1)."""
        return 0

    @property
    def is_bounded(self) -> bool:
        """False (Lemma 1)."""
        return False

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh all clients alike."""
        return Choice.uniform(geometry.n, range(geometry.n))
