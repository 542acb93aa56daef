"""Clipping: long updates are shortened, to a fixed length or to one that the others set.

Sources: Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019 (fixed
length); Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, "Adaptive Gradient Clipping for Robust
Federated Learning", ICLR 2025 (ARC).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.average import Average
from flwr_krum.rules.facts import AROUND_MODEL, Facts, Kappa
from flwr_krum.rules.mixing import Mixing
from flwr_krum.rules.rule import Choice


def shortened(geometry: Geometry, limit: float) -> Float64:
    """Return the diagonal matrix that shortens updates to a length; zero updates stay.

    Of one that is infinitely far nothing is left: no weight would fit.
    """
    norms = geometry.norms
    with np.errstate(divide="ignore"):
        shares = np.where(norms > limit, limit / norms, 1.0)
    return np.diag(np.where(geometry.near, shares, 0.0))


@dataclass(frozen=True)
class Clipping(Mixing):
    """Shorten every update to at most C: ``y_i = w + u_i min(1, C / ||u_i||)``.

    Lengths are those of the updates, not of the models.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate; None is as many as the rule behind tolerates.
    C : float
        Largest length of an update, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_krum.rules import Average
    >>> (Clipping(C=1.0) | Average())(np.array([[0.5], [-8.0]])).vector
    array([-0.25])
    """

    C: float = math.inf

    facts = Facts(
        source="none: what is shortened is shortened",
        breakdown="that of the rule behind",
        cost="O(n^2 d); O(n d) would do",
        invariances=("permutation", "rotation", "negation"),
        kappa="none: C is not the spread of the honest",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.C, bool) or not (isinstance(self.C, int | float) and self.C > 0.0):
            raise ValueError(f"C must be a number > 0, got {self.C!r}")

    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return the shares of the updates on a diagonal; the rest lies on the global model."""
        return shortened(geometry, self.C * geometry.scale)


@dataclass(frozen=True)
class AdaptiveClipping(Mixing):
    """Shorten the k longest updates to the length of the next one (ARC).

    ``k = floor(2 (f / n) (n - f))``, in whole numbers; of updates of one length the smallest
    indices count as longer.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is as many as the rule behind tolerates.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_krum.rules import Average
    >>> (AdaptiveClipping(f=1) | Average())(np.array([[1.0], [2.0], [-3.0], [90.0]])).vector
    array([0.75])
    """

    requirement = "2f < n"
    facts = Facts(
        source="Allouah et al., ICLR 2025",
        breakdown="1/2, or that of the rule behind",
        cost="O(n^2 d); O(n d) would do",
        invariances=AROUND_MODEL,
        kappa=Kappa(
            "kappa + 2f/(n-2f), kappa that of the rule behind",
            "Allouah et al., ICLR 2025",
            checked=False,
        ),
    )

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return the shares of the updates on a diagonal; the rest lies on the global model."""
        n, f, norms = geometry.n, self.f or 0, geometry.norms
        k = min(n - 1, max(0, 2 * f * (n - f) // n))
        return shortened(geometry, float(np.sort(norms)[n - 1 - k]))


@dataclass(frozen=True)
class NormBounding(Average):
    """Return ``w + (1/n) sum_i u_i min(1, C / ||u_i||)``: each client moves it by C/n at most.

    Parameters
    ----------
    f, strict
        As for Average, which bears no liar; here f of them can move the result by f C / n.
    C : float
        Largest length of an update, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> NormBounding(C=1.0)(np.array([[0.5], [-8.0]])).vector
    array([-0.25])
    """

    C: float = math.inf

    weighs = None
    facts = Facts(
        source="none: each client moves the result by C/n at most",
        breakdown="1",
        cost="O(n^2 d); O(n d) would do",
        invariances=("permutation", "rotation", "negation"),
        kappa="none for f >= 1: the bound is C, not the spread of the honest",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        Clipping(C=self.C)  # raises where it is not legal

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound."""
        return math.inf > self.C

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh all clients alike, the long ones by less."""
        M = Clipping(C=self.C).matrix(geometry, server_round)
        return super().choose(geometry.mixed(M), server_round).after(M)
