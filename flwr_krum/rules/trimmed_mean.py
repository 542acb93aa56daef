"""The coordinate-wise trimmed mean.

Source: Yin, Chen, Kannan, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018, Definition 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import Window
from flwr_krum.rules.facts import PER_COORDINATE, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """Return, per coordinate, the mean without the f smallest and the f largest values.

    ``x_k = 1/(n - 2f) sum_{i = f+1}^{n-f} V_(i),k``. Cost O(n log n) per coordinate.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f, of which at most (n - 1) // 2 values are cut at each end.

    Examples
    --------
    >>> import numpy as np
    >>> TrimmedMean(f=1)(np.array([[0.0], [3.0], [6.0], [10.0], [99.0]])).vector
    array([6.33333333])
    """

    requirement = "2f < n"
    facts = Facts(
        source="Yin et al. 2018, Definition 2",
        breakdown="1/2",
        cost="O(d n log n)",
        invariances=PER_COORDINATE,
        kappa=Kappa("6f/(n-2f) (1 + f/(n-2f))", "Allouah et al., AISTATS 2023", checked=False),
    )

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Average all but f of the sorted values at each end."""
        n = geometry.n
        f = min(self.liars(n), (n - 1) // 2)
        return Choice.of_sorted(n, Window(f, n - f, n - 2 * f))
