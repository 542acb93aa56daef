"""Noise in place of a gradient. Source: Blanchard et al., NIPS 2017, section 5."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flwr_krum.attacks.attack import Attack, AttackFacts, Scene
from flwr_krum.checks import number
from flwr_krum.kernel.arrays import Float64


@dataclass(frozen=True)
class Gaussian(Attack):
    """Send independent noise, ``V_i ~ N(0, variance I)``, which is the update ``-rate V_i``.

    Parameters
    ----------
    variance : float (default: 200)
        Of each coordinate; the paper's "standard deviation 200" is, in its supplement, a variance.

    Raises
    ------
    ValueError
        If it is negative or not finite.
    """

    variance: float = 200.0

    knowledge = "none"
    facts = AttackFacts(
        source="Blanchard, El Mhamdi, Guerraoui, Stainer, NIPS 2017, section 5 and supplement",
        formula="-rate V_i, V_i ~ N(0, variance I), independent",
        breaks="the mean",
        resists="every robust rule",
        differs="krum 0.9.1 takes 200 as the standard deviation, FLPoison 1, velocity-fl 100",
    )

    def __post_init__(self) -> None:
        number("variance", self.variance, least=0.0)

    def rows(self, scene: Scene) -> Float64:
        """Draw one row for each attacker."""
        scale = scene.rate * math.sqrt(self.variance)
        noise = scene.rng.standard_normal((scene.f, scene.honest.shape[1]))
        rows: Float64 = -(scale * noise)
        return rows
