"""The geometric median, by Weiszfeld's iteration on the distances alone.

Sources: Vardi, Zhang, "The multivariate L1-median and associated data depth", PNAS 2000 (when a
vector is its own median); Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated
Learning", IEEE TSP 2022 (RFA, the smoothed iteration).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts, Kappa
from flwr_krum.rules.rule import Choice, Rule

Start = Literal["clients", "model"]


@dataclass(frozen=True)
class GeometricMedian(Rule):
    """Return the point z that minimises ``g(z) = (1/n) sum_i ||z - V_i||``, to a stated accuracy.

    ``z <- sum_i b_i V_i / sum_i b_i`` with ``b_i = 1 / max(nu, ||z - V_i||)``. Since the minimiser
    lies among the vectors, ``g(z) - min g <= (sum_i b_i / n) ||z - z'|| max_i ||z - V_i||`` for a
    step from z to z'; it stops when that is at most ``eps g(z)``. A vector that is the median
    itself is found first and exactly. On a line of even n every point between the middle two is
    one; which of them comes out is not said. Cost O(n^2) a step.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f.
    eps : float
        Relative accuracy of g, > 0.
    steps : int
        Steps at most; the report says so if they were not enough.
    nu : float
        Distance below which g is smooth (RFA), >= 0.
    start : "clients" | "model"
        Begin among the clients, those closest to all others weighing most, or at the global model.

    Examples
    --------
    >>> import numpy as np
    >>> GeometricMedian()(np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5], [1.0, 99.0]])).vector
    array([1. , 0.5])
    """

    eps: float = 1e-9
    steps: int = 1000
    nu: float = 0.0
    start: Start = "clients"

    requirement = "2f < n"
    weighs = "copies"
    facts = Facts(
        source="as for the median",
        breakdown="1/2",
        cost="O(n^2 d), and O(n^2) a step",
        invariances=ALL,
        kappa=Kappa("4 (1 + f/(n-2f))^2", "Allouah et al., AISTATS 2023", checked=False),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("steps", self.steps, 1)
        if not self.eps > 0.0:
            raise ValueError(f"eps must be a number > 0, got {self.eps!r}")
        if not self.nu >= 0.0:
            raise ValueError(f"nu must be a number >= 0, got {self.nu!r}")
        if self.start not in get_args(Start):
            raise ValueError(f"start must be one of {get_args(Start)}, got {self.start!r}")

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh the clients by what the last step made of their distances."""
        return self.weigh(geometry, server_round, np.ones(geometry.n))

    def weigh(self, geometry: Geometry, server_round: int, shares: Float64) -> Choice:
        """Do so for ``g(z) = sum_i a_i ||z - V_i||`` with shares a; each b_i is a_i times as large.

        A vector is the median itself where the others' pull is no longer than the share that
        stands there.
        """

        def weigh_near(near: Geometry) -> Choice:
            return self._weigh(near, shares[geometry.near] if near.n < geometry.n else shares)

        return Choice.among_near(geometry, weigh_near)

    def _weigh(self, geometry: Geometry, shares: Float64) -> Choice:
        n = geometry.n
        if self.nu == 0.0 and self.start == "clients":
            own = _own_median(geometry, shares)
            if own is not None:
                return Choice.uniform(n, [own])
        # The global model is the last point: weights over all points sum to 1.
        weights = np.zeros(n + 1)
        # Medians, not sums: a single vector of 1e30 swamps all sums alike.
        usual = np.median(np.sqrt(geometry.squared), axis=1)
        products, _ = _products_about(geometry, int(np.argmin(usual)))
        if self.start == "clients":
            weights[:n] = _inverse(usual, shares)
        else:
            weights[n] = 1.0
        floor = max(self.nu * geometry.scale, np.finfo(float).tiny)
        for _ in range(self.steps):
            apart = _from_mixture(products, weights)[:n]
            smooth = np.maximum(apart, floor)
            new = np.append(_inverse(smooth, shares), 0.0)
            gap = new - weights
            moved = np.sqrt(max(0.0, float(gap @ products @ gap)))
            with np.errstate(over="ignore"):  # on a vector, 1 / smooth is the largest there is
                slack = (shares / smooth).sum() * moved * apart.max()
            weights = new
            if slack <= self.eps * (shares * apart).sum():
                return Choice.of_weights(weights[:n], n)
        note = f"{self.steps} steps left the geometric median less sure than eps={self.eps:g}"
        return Choice.of_weights(weights[:n], n, note=note if self.start == "clients" else "")


def _inverse(lengths: Float64, shares: Float64) -> Float64:
    """Return weights that are as the shares over the lengths, and sum to 1."""
    with np.errstate(divide="ignore"):
        inverse = lengths.min() / lengths if lengths.min() > 0.0 else (lengths == 0.0).astype(float)
    inverse = shares * inverse
    weights: Float64 = inverse / inverse.sum()
    return weights


def _products_about(geometry: Geometry, k: int) -> tuple[Float64, Float64]:
    """Return ``<x_i - x_k, x_j - x_k>`` of the vectors and, last, the global model; and its terms.

    From squared distances nothing of a common offset is left in it; from inner products nothing
    of how far away a liar is. Each entry is taken from where less is rounded.
    """
    n = geometry.n
    gram, squared = np.zeros((2, n + 1, n + 1))
    gram[:n, :n], squared[:n, :n] = geometry.gram, geometry.squared
    squared[n, :n] = squared[:n, n] = np.diagonal(geometry.gram)
    reach = np.append(geometry.norms, 0.0) + geometry.norms[k]
    sides = squared[:, [k]] + squared[[k], :]
    with_origin, without = np.outer(reach, reach), sides + squared
    products: Float64 = np.where(
        with_origin < without,
        gram - gram[:, [k]] - gram[[k], :] + gram[k, k],
        (sides - squared) / 2.0,
    )
    return products, np.minimum(with_origin, without)


def _from_mixture(products: Float64, weights: Float64) -> Float64:
    """Return how far the points are from their mixture, from products of their offsets."""
    along = products @ weights
    squared = float(weights @ along) - 2.0 * along + np.diagonal(products)
    apart: Float64 = np.sqrt(np.maximum(squared, 0.0))
    return apart


def _own_median(geometry: Geometry, shares: Float64) -> int | None:
    """Return the first vector that is the geometric median itself, if one is (Vardi, Zhang).

    It is so where the others' pull, unit vectors towards them by share, is no longer than the share
    of the vectors that stand where it stands. Where rounding would say so, it is left to the
    iteration.
    """
    lengths = np.sqrt(geometry.squared)
    sums = (lengths * shares).sum(axis=1)
    for k in np.flatnonzero(sums <= sums.min() * (1.0 + 1e-13)).tolist():
        away = lengths[k] > 0.0
        unit = np.divide(shares, lengths[k], out=np.zeros_like(lengths[k]), where=away)
        products, terms = (of[: len(unit), : len(unit)] for of in _products_about(geometry, k))
        np.fill_diagonal(terms, 0.0)
        unsure = np.finfo(float).eps * float(unit @ terms @ unit)  # by one that is all but there
        pull = np.sqrt(max(0.0, float(unit @ products @ unit)))
        if unsure < 1e-6 * shares.mean() ** 2 and pull <= shares[~away].sum():
            return int(k)
    return None
