"""ALIE: a shift that hides in the spread of the honest. Source: Baruch et al., NeurIPS 2019."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.checks import number, one_of, whole_number
from flwr_krum.kernel.arrays import Float64

Sign: TypeAlias = Literal["minus", "plus"]


@dataclass(frozen=True)
class ALIE(Attack):
    """Send ``mu - z sigma``: mean and standard deviation of the honest updates, per coordinate.

    A minus on gradients is a plus on updates, whose sign is the opposite one.

    Parameters
    ----------
    z : float, optional
        By default the paper's own, `z_max` of n and f.
    sign : "minus" | "plus" (default: "minus")
        That of the authors' code, or the one that the paper writes.
    ddof : int (default: 1)
        Of sigma: the sum of squares is divided by h - ddof; of h <= ddof updates sigma is 0, and
        mu is sent.

    Raises
    ------
    ValueError
        If z is not finite, there is no such sign, or ddof is negative; when called, if z is to be
        the paper's and there is none.
    """

    z: float | None = None
    sign: Sign = "minus"
    ddof: int = 1

    facts = AttackFacts(
        source="Baruch, Baruch, Goldberg, NeurIPS 2019, algorithm 3 (number not checked)",
        formula="mu - z sigma, or mu + z sigma; "
        "z = Phi^-1((n - f - s) / (n - f)), s = floor(n/2 + 1) - f",
        breaks="Multi-Krum, Bulyan, medians and the geometric median, over many rounds",
        resists="every rule where there are few attackers: then the paper's z is next to 0",
        differs="the authors' code has minus, the paper and most implementations plus; krum 0.9.1 "
        "and byzpy divide by n instead of n - f; published runs fix z at 1 to 1.5; FLPoison, "
        "velocity-fl, krum 0.9.1 and byzpy take ddof 0",
    )

    def __post_init__(self) -> None:
        if self.z is not None:
            number("z", self.z)
        one_of("sign", self.sign, ("minus", "plus"))
        whole_number("ddof", self.ddof, 0)

    @property
    def needs(self) -> frozenset[Need]:
        """The number of clients, where z follows from it."""
        return frozenset({"n"}) if self.z is None else frozenset()

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        z = z_max(scene.required("n"), scene.f) if self.z is None else self.z
        sent: Float64 = scene.mean + (-z if self.sign == "minus" else z) * scene.deviation(
            self.ddof
        )
        return sent


def z_max(n: int, f: int) -> float:
    """Return the largest shift, in standard deviations, that hides among the honest.

    ``Phi^-1((n - f - s) / (n - f))``, where the f attackers need ``s = floor(n/2 + 1) - f`` honest
    supporters for a majority. It is negative where that ratio is below 1/2: where there are so few
    attackers that their majority has to hold most of the honest clients.

    Raises
    ------
    ValueError
        If the ratio is not between 0 and 1: the attackers are a majority themselves, or n <= 2.

    Examples
    --------
    >>> round(z_max(50, 24), 6)
    1.426077
    """
    supporters = n // 2 + 1 - f
    if not 0 < n - f - supporters < n - f:
        raise ValueError(
            f"z is not defined for n={n}, f={f}: it asks for n >= 3 and 1 to n - f - 1 honest "
            f"supporters of a majority, got {supporters}; give z"
        )
    return NormalDist().inv_cdf((n - f - supporters) / (n - f))
