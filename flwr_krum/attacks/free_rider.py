"""Clients that take the model and train nothing. Source: Lin, Du, Liu, 2019."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.checks import number, one_of
from flwr_krum.kernel.arrays import Float64

Kind: TypeAlias = Literal["zero", "noise", "last-step"]


@dataclass(frozen=True)
class FreeRider(Attack):
    """Send what looks like an update: nothing, noise, or the last step of the global model.

    The last step is ``w_t - w_{t-1}``, between the last two models that the client received, and 0
    in its first round.

    Parameters
    ----------
    kind : "zero" | "noise" | "last-step" (default: "last-step")
    noise : float (default: 1e-3)
        Standard deviation of what is drawn for each attacker and coordinate, alone or on top of
        the last step; without a meaning for "zero".

    Raises
    ------
    ValueError
        If there is no such kind, or the noise is negative or not finite.
    """

    kind: Kind = "last-step"
    noise: float = 1e-3

    knowledge = "own"
    facts = AttackFacts(
        source="Lin, Du, Liu, arXiv 1911.12560, 2019; Fraboni, Vidal, Lorenzi, AISTATS 2021",
        formula="0; N(0, noise^2 I); or w_t - w_{t-1} + N(0, noise^2 I)",
        breaks="no rule: it takes the model for nothing, and slows",
        resists="every rule",
        differs="Lin et al. draw the noise alone from a uniform distribution; Fraboni et al. let "
        "it fade with the rounds",
    )

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("zero", "noise", "last-step"))
        number("noise", self.noise, least=0.0)

    @property
    def needs(self) -> frozenset[Need]:
        """The global model, of this round and of the one before."""
        return frozenset({"model", "memory"}) if self.kind == "last-step" else frozenset()

    def rows(self, scene: Scene) -> Float64:
        """Return a row each, or the one that all send."""
        d = scene.honest.shape[1]
        if self.kind == "zero":
            return np.zeros(d)
        noise: Float64 = self.noise * scene.rng.standard_normal((scene.f, d))
        return noise + self._last_step(scene) if self.kind == "last-step" else noise

    @staticmethod
    def _last_step(scene: Scene) -> Float64:
        memory, model = scene.required("memory"), scene.required("model")
        step: Float64 = model - memory.get("model", model)
        memory["model"] = model.copy()
        return step
