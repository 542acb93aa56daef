"""As far from the mean as the honest are from each other.

Source: Shejwalkar, Houmansadr, NDSS 2021, section IV (number not checked), the attacks that are
agnostic of the rule.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Scene
from flwr_krum.attacks.scaling import scaled
from flwr_krum.checks import one_of, whole_number
from flwr_krum.kernel.arrays import Float64

Direction: TypeAlias = Literal["unit", "sign", "std"]
Bound: TypeAlias = Literal["max", "min"]


@dataclass(frozen=True)
class _Hidden(Attack):
    """Send ``mu + g p`` with the largest g that a bound on distances allows.

    Where p is 0 (a mean of 0, no deviation) or g is (all honest updates are equal, there is one
    alone), mu is sent.
    """

    direction: Direction = "unit"
    ddof: int = 1

    def __post_init__(self) -> None:
        one_of("direction", self.direction, ("unit", "sign", "std"))
        whole_number("ddof", self.ddof, 0)

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        honest, exponent = scaled(scene.honest)
        small = Scene(honest, scene.f, scene.rng)
        direction = self._direction(small.mean, small.deviation(self.ddof))
        if not direction.any():
            return scene.mean
        factor = self._factor(honest - small.mean, direction)
        row: Float64 = np.ldexp(small.mean + factor * direction, exponent)
        return row

    def _direction(self, mean: Float64, deviation: Float64) -> Float64:
        """Return p, up to its length, on which what is sent does not depend."""
        directions = {"unit": mean, "sign": np.sign(mean), "std": deviation}
        direction, _ = scaled(directions[self.direction])
        return -direction

    @abstractmethod
    def _factor(self, centred: Float64, direction: Float64) -> float:
        """Return the largest g; centred (h, d) are the honest updates less their mean."""


@dataclass(frozen=True)
class MinMax(_Hidden):
    """Send ``mu + g p`` with the largest g such that ``max_i ||v - x_i|| <= max_ij ||x_i - x_j||``.

    Each honest update bounds g by the larger root of a quadratic; g is the least of these. Where p
    is 0 (a mean of 0, no deviation) or all honest updates are equal, mu is sent.

    Parameters
    ----------
    direction : "unit" | "sign" | "std" (default: "unit")
        p: ``-mu / ||mu||``, ``-sign(mu)`` or ``-sigma``.
    ddof : int (default: 1)
        Of sigma.

    Raises
    ------
    ValueError
        If there is no such direction, or ddof is negative.
    """

    facts = AttackFacts(
        source="Shejwalkar, Houmansadr, NDSS 2021, section IV (number not checked)",
        formula="mu + g p, the largest g such that max_i ||v - x_i|| <= max_ij ||x_i - x_j||; "
        "p = -mu/||mu||, -sign(mu) or -sigma",
        breaks="Multi-Krum, Bulyan, the trimmed mean and the median, untuned",
        resists="DnC and FLTrust, according to their papers",
        differs="the authors' release searches from 10 in halving steps: never beyond 20, and up "
        "to 1e-5 short; Blades bisects sigma's g in [0, 5] to .01",
    )

    def _factor(self, centred: Float64, direction: Float64) -> float:
        gram = centred @ centred.T
        squares = np.diagonal(gram)
        bound = (squares[:, None] + squares - 2.0 * gram).max()
        # Of client i: a g^2 - 2 b g <= c; both forms of the root are exact, each where it is used.
        a = direction @ direction
        b = centred @ direction
        c = np.maximum(bound - squares, 0.0)
        root = np.sqrt(b * b + a * c)
        ahead = b >= 0.0
        return float(np.where(ahead, b + root, c * a / np.where(ahead, 1.0, root - b)).min() / a)


@dataclass(frozen=True)
class MinSum(_Hidden):
    """Send ``mu + g p`` with the largest g such that ``sum_i ||v - x_i||^2`` is within a bound.

    That sum is ``h ||v - mu||^2 + sum_i ||x_i - mu||^2``, and the same sum of an honest client is
    the bound: v is as far from mu as the client that is farthest from it, or nearest. Where p is 0
    (a mean of 0, no deviation) or all honest updates are equal, mu is sent.

    Parameters
    ----------
    direction : "unit" | "sign" | "std" (default: "unit")
        p: ``-mu / ||mu||``, ``-sign(mu)`` or ``-sigma``.
    ddof : int (default: 1)
        Of sigma.
    bound : "max" | "min" (default: "max")
        Which honest client's sum: the largest, as in the paper, or the smallest, as in the
        authors' release.

    Raises
    ------
    ValueError
        If there is no such direction or bound, or ddof is negative.
    """

    bound: Bound = "max"

    facts = AttackFacts(
        source="Shejwalkar, Houmansadr, NDSS 2021, section IV (number not checked)",
        formula="mu + g p, the largest g such that sum_i ||v - x_i||^2 <= max_i sum_j "
        "||x_i - x_j||^2, or min_i; p = -mu/||mu||, -sign(mu) or -sigma",
        breaks="Multi-Krum, Bulyan, the trimmed mean and the median, untuned",
        resists="DnC and FLTrust, according to their papers",
        differs="the authors' release and CRYPTO-KU take the smallest sum as the bound, FLPoison "
        "the largest",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("bound", self.bound, ("max", "min"))

    def _factor(self, centred: Float64, direction: Float64) -> float:
        distances = np.linalg.norm(centred, axis=1)
        far = distances.max() if self.bound == "max" else distances.min()
        return float(far / np.linalg.norm(direction))
