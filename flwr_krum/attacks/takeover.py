"""Attackers that decide what a mean becomes, whether or not they know what the others send.

Sources: Blanchard et al., NIPS 2017, Lemma 1; Bagdasaryan et al., AISTATS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.attacks.scaling import length
from flwr_krum.attacks.vectors import steering_vector
from flwr_krum.checks import number
from flwr_krum.kernel.arrays import Float64


@dataclass(frozen=True)
class Takeover(Attack):
    """Make the mean of all updates what the attackers like: ``v = (n T - sum_i x_i) / f``.

    All f send v; n is what the adversary knows of, h + f.

    Parameters
    ----------
    target : float or "reversed" (default: "reversed")
        T: an update of this number in every coordinate, 0 being a model that stands still; or
        ``-mu``, the honest mean reversed.

    Raises
    ------
    ValueError
        If it is neither a finite number nor that word.
    """

    target: float | str = "reversed"

    facts = AttackFacts(
        source="Blanchard, El Mhamdi, Guerraoui, Stainer, NIPS 2017, Lemma 1",
        formula="(n T - sum_i x_i) / f, T = -mu or a constant",
        breaks="every weighted mean, with a single attacker",
        resists="every robust rule",
    )

    def __post_init__(self) -> None:
        if isinstance(self.target, str) and self.target != "reversed":
            raise ValueError(f"target is {self.target!r}, expected a finite number or 'reversed'")
        if not isinstance(self.target, str):
            number("target", self.target)

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        mean = scene.mean
        target = -mean if isinstance(self.target, str) else np.full(len(mean), self.target)
        h, n = len(scene.honest), len(scene.honest) + scene.f
        row: Float64 = steering_vector(scene.honest, target, [1.0 / n] * h + [scene.f / n])
        return row


@dataclass(frozen=True)
class ModelReplacement(Attack):
    """Send ``w + scale (X - w)``, X being the model that the attacker trained: ``scale u``.

    The mean then is X if there is one attacker and the honest updates cancel, as they about do
    near convergence. Each attacker scales its own; what f of them add up to is f times as far.

    Parameters
    ----------
    scale : float, optional
        By default n: what a server that averages, at its rate 1, takes away; n / rate for another.
    clip : float, optional
        The largest norm of an update that is sent, where the server has a bound; by default none.

    Raises
    ------
    ValueError
        If a number is not above 0 or not finite.
    """

    scale: float | None = None
    clip: float | None = None

    knowledge = "own"
    facts = AttackFacts(
        source="Bagdasaryan, Veit, Hua, Estrin, Shmatikov, AISTATS 2020, section 4 (number not "
        "checked)",
        formula="scale u, scale = n; scaled back to a norm of clip",
        breaks="the mean, with a single attacker",
        resists="norm bounds, and every robust rule while clip is none",
    )

    def __post_init__(self) -> None:
        if self.scale is not None:
            number("scale", self.scale, above=0.0)
        if self.clip is not None:
            number("clip", self.clip, above=0.0)

    @property
    def needs(self) -> frozenset[Need]:
        """What the attackers trained, and n where that is the scale."""
        return frozenset({"own"}) if self.scale is not None else frozenset({"own", "n"})

    def rows(self, scene: Scene) -> Float64:
        """Return a row each."""
        scale = float(scene.required("n")) if self.scale is None else self.scale
        own: Float64 = scene.required("own")
        if self.clip is None:
            return scale * own
        # What it takes to reach the bound, rather than what is too long: that may be infinite.
        bounds = [self.clip / norm if (norm := length(row)) else scale for row in own]
        rows: Float64 = own * np.minimum(scale, bounds)[:, None]
        return rows
