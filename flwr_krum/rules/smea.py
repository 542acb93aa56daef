"""SMEA: the mean of the n - f updates that vary least in every direction.

Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Rizk, Voitovych, "On the Privacy-Robustness-
Utility Trilemma in Distributed Learning", ICML 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule, whole_number


@dataclass(frozen=True)
class SMEA(Rule):
    """Return the mean of the S of n - f clients whose covariance has the smallest top eigenvalue.

    All ``C(n, f)`` sets are tried, in lexicographic order; the first of equals is taken.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f.
    most_sets : int
        Sets that may be tried; more are refused, since a round would not end.

    Raises
    ------
    ValueError
        If there are more sets.

    Examples
    --------
    >>> import numpy as np
    >>> SMEA(f=1)(np.array([[1.0], [2.0], [3.0], [90.0]])).selected
    (0, 1, 2)
    """

    most_sets: int = 200_000

    requirement = "2f < n"
    facts = Facts(
        source="any two sets of n - f clients share an honest one for 2f < n",
        breakdown="1/2",
        cost="O(n^2 d), and O(n^3) for each of C(n, f) sets",
        invariances=ALL,
        kappa=Kappa(
            "4f/(n-f) (1 + f/(n-2f))^2, on the largest eigenvalue of the covariance",
            "Allouah et al., ICML 2023",
            checked=False,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("most_sets", self.most_sets, 1)

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def check(self, n: int) -> None:
        """Require ``2f < n``, and no more sets than may be tried."""
        super().check(n)
        sets = math.comb(n, max(1, n - self.liars(n)))
        if sets > self.most_sets:
            raise ValueError(
                f"SMEA would try {sets} sets at n={n}, f={self.liars(n)}; legal: "
                f"most_sets={self.most_sets} or more, or a smaller f"
            )

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Try every set."""
        n, squared = geometry.n, geometry.squared
        size = max(1, n - self.liars(n))
        centre = np.eye(size) - 1.0 / size
        best: tuple[int, ...] = tuple(range(size))
        least = np.inf
        for chosen in combinations(range(n), size):
            scatter = -0.5 * centre @ squared[np.ix_(chosen, chosen)] @ centre
            top = float(np.linalg.eigvalsh(scatter)[-1])
            if top < least * (1.0 - 1e-12):  # equal sets differ by rounding
                best, least = chosen, top
        return Choice.uniform(n, best)
