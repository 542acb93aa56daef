"""CAF: weights are taken from those who stand out in the direction of largest variance.

Source: Allouah, Guerraoui, Stephan, "Towards Trustworthy Federated Learning with Untrusted
Participants", ICML 2025 (covariance-bound agnostic filter).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts
from flwr_krum.rules.rule import Choice, Rule


@dataclass(frozen=True)
class CAF(Rule):
    """Return the weighted mean at which the largest variance in one direction was smallest.

    While the weights c (at first 1) sum to more than n - 2f: with their mean mu, the top
    eigenpair (lambda, v) of their covariance and ``tau_i = <V_i - mu, v>^2``, each weight is
    multiplied by ``1 - tau_i / max tau``, the maximum over clients of any weight. Of all mu the
    one of smallest lambda is returned. At most n passes of O(n^3).

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f.

    Examples
    --------
    >>> import numpy as np
    >>> CAF(f=1)(np.array([[1.0], [2.0], [3.0], [90.0]])).vector.round(3)
    array([2.008])
    """

    requirement = "2f < n"
    facts = Facts(
        source="the filter stops at weights of n - 2f, which 2f < n leaves",
        breakdown="1/2",
        cost="O(n^2 d), and at most n passes of O(n^3)",
        invariances=ALL,
        kappa="none stated here: the formula was not read",
    )

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Filter until the weights of all but the liars are spent."""
        return Choice.among_near(geometry, self._filter)

    def _filter(self, geometry: Geometry) -> Choice:
        n, squared = geometry.n, geometry.squared
        f = self.liars(n)
        weights, best, least = np.ones(n), np.full(n, 1.0 / n), np.inf
        while weights.sum() > max(0, n - 2 * f):
            shares = weights / weights.sum()
            variance, along = _top_direction(squared, shares)
            if variance < least:
                best, least = shares, variance
            highest = along[weights > 0.0].max()
            if highest <= 0.0:
                break
            weights = np.where(along >= highest, 0.0, weights * (1.0 - along / highest))
        return Choice.of_weights(best, n)


def _top_direction(squared: Float64, shares: Float64) -> tuple[float, Float64]:
    """Return the largest variance in one direction, and the squared offsets along it.

    Who has no share has no offset. Products of offsets from the weighted mean come from squared
    distances, in which nothing of a common offset is left.
    """
    towards = squared @ shares
    inner = 0.5 * (towards[:, None] + towards[None, :] - squared - shares @ towards)
    root = np.sqrt(shares)
    values, vectors = np.linalg.eigh(root[:, None] * inner * root[None, :])
    top = float(values[-1])
    if top <= 0.0:
        return 0.0, np.zeros(len(shares))
    held = shares > 0.0  # beside the others, those who are left out may be of any size
    along = np.zeros(len(shares))
    along[held] = inner[held] @ (root * vectors[:, -1]) / np.sqrt(top)
    return top, along**2
