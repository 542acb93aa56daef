"""Honest updates with the sign changed. Source: Damaskinos et al., ICML 2018."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from flwr_krum.attacks.attack import Attack, AttackFacts, Knowledge, Need, Scene
from flwr_krum.checks import number, one_of
from flwr_krum.kernel.arrays import Float64

Of: TypeAlias = Literal["own", "mean"]


@dataclass(frozen=True)
class SignFlip(Attack):
    """Send ``-scale u``, where u is the attacker's own honest update, or the mean of all.

    Parameters
    ----------
    scale : float (default: 1)
    of : "own" | "mean" (default: "own")

    Raises
    ------
    ValueError
        If the scale is negative or not finite, or there is no such ``of``.
    """

    scale: float = 1.0
    of: Of = "own"

    facts = AttackFacts(
        source="Damaskinos et al., ICML 2018; of=mean as in ByzFL and krum 0.9.1",
        formula="-scale u_i, or -scale mu",
        breaks="the mean where scale f > h; Krum on unequal data without NNM",
        resists="NNM before a rule; momentum at the clients",
        differs="velocity-fl negates weights instead of updates",
    )

    def __post_init__(self) -> None:
        number("scale", self.scale, least=0.0)
        one_of("of", self.of, ("own", "mean"))

    @property
    def knowledge(self) -> Knowledge:  # type: ignore[override]
        """Its own update, or all."""
        return "own" if self.of == "own" else "all"

    @property
    def needs(self) -> frozenset[Need]:
        """The attackers' own updates, where those are what is sent."""
        return frozenset({"own"}) if self.of == "own" else frozenset()

    def rows(self, scene: Scene) -> Float64:
        """Return a row each, or the one that all send."""
        sent: Float64 = scene.required("own") if self.of == "own" else scene.mean
        return -self.scale * sent
