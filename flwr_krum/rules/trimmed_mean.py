"""The coordinate-wise trimmed mean.

Source: Yin, Chen, Kannan, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018, Definition 2.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from numbers import Real

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.shares import heaviest
from flwr_krum.kernel.sorting import WeightedWindow, Window
from flwr_krum.rules.facts import PER_COORDINATE, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """Return, per coordinate, the mean without the k smallest and the k largest values.

    ``x_k = 1/(n - 2k) sum_{i = k+1}^{n-k} V_(i),k`` with k = f, or ``floor(beta n)`` where beta is
    given. Cost O(n log n) per coordinate.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2. With beta ``f <= floor(beta
        n)``, and None is that.
    strict : bool
        False allows an illegal f, of which at most (n - 1) // 2 values are cut at each end.
    beta : float, optional
        Share of the values to cut at each end, in (0, 0.5). The product with n is rounded to a
        float before the floor is taken, as in SciPy and Flower.

    Raises
    ------
    ValueError
        If f is no integer >= 0 or, when called, illegal for n; if beta is illegal.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.array([[0.0], [3.0], [6.0], [10.0], [99.0]])
    >>> TrimmedMean(f=1)(V).vector, TrimmedMean(beta=0.4)(V).vector
    (array([6.33333333]), array([6.]))
    """

    beta: float | None = None

    weighs = "copies"
    is_ranking = True
    facts = Facts(
        source="Yin et al. 2018, Definition 2",
        breakdown="1/2, beta where it is given",
        cost="O(d n log n)",
        invariances=PER_COORDINATE,
        kappa=Kappa("6f/(n-2f) (1 + f/(n-2f))", "Allouah et al., AISTATS 2023", checked=False),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta is not None:
            _check_share(self.beta)

    @property
    def requirement(self) -> str:  # type: ignore[override]
        """``2f < n``, or ``f <= floor(beta n)``."""
        return "2f < n" if self.beta is None else f"f <= floor({self.beta} n)"

    @property
    def is_coordinate_wise(self) -> bool:
        """True: each coordinate is sorted by itself."""
        return True

    def least(self, f: int) -> int:
        """Return ``2f + 1``, or the smallest n of which the share beta is f."""
        if self.beta is None or f == 0:
            return 2 * f + 1
        return bisect_left(range(math.ceil(2 * f / self.beta)), f, key=self._share)

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Average the sorted values that are not cut."""
        n = geometry.n
        cut = self.outweighed(n)
        return Choice.of_sorted(n, Window(cut, n - cut, n - 2 * cut))

    def weigh(self, geometry: Geometry, server_round: int, shares: Float64) -> Choice:
        """Cut, at each end, as much as the heaviest clients hold, as many as would be cut."""
        n = geometry.n
        window = WeightedWindow(tuple(shares.tolist()), heaviest(shares, self.outweighed(n)))
        return Choice.of_sorted(n, window)

    def outweighed(self, n: int) -> int:
        """Return how many are cut at each end."""
        return min(max(self.liars(n), self._share(n)), (n - 1) // 2)

    def _share(self, n: int) -> int:
        return 0 if self.beta is None else int(self.beta * n)


def _check_share(beta: object) -> None:
    if not (isinstance(beta, Real) and 0.0 < float(beta) < 0.5):
        raise ValueError(
            f"beta must be a number with 0 < beta < 0.5, got {beta!r}; an average, which cuts "
            "nothing, is the rule Average"
        )
