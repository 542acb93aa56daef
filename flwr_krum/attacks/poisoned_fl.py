"""One direction through all rounds, without a look at the honest. Source: Xie et al., CVPR 2025."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.attacks.scaling import length
from flwr_krum.checks import number, whole_number
from flwr_krum.kernel.arrays import Array, Float64

LEAST = 0.5
"""The factor is not reduced below it."""

QUANTILE = 2.326
"""Of the standard normal distribution, one-sided 99 %."""


@dataclass(frozen=True)
class PoisonedFL(Attack):
    """Push the model along fixed signs, shaped as its own steps are.

    With ``g = w_t - w_{t-1}`` and the attackers' last row ``v``, each entry's share of what the
    server did beside it is ``e = | g - v ||g|| / ||v|| |``, and all send::

        factor ||g|| e / ||e|| * signs

    Every so many rounds the factor is multiplied by ``decay``, unless the model went along the
    signs in more coordinates than chance has it, one-sided 99 %, or that makes it less than 0.5. A
    coordinate that did not move went along with no sign. The first row is the honest update, and
    counts as v = 0 in the second round, so that all attackers send the same from there on;
    ``e = 0`` gives a row of 0.

    Parameters
    ----------
    factor : float (default: 8)
    decay : float (default: 0.7)
    every : int (default: 50)
        Rounds, of those in which the attack is at work.
    seed : int (default: 0)
        Of the signs, which the attackers share without knowing each other.

    Raises
    ------
    ValueError
        If a number is out of bounds.
    """

    factor: float = 8.0
    decay: float = 0.7
    every: int = 50
    seed: int = 0

    knowledge = "own"
    facts = AttackFacts(
        source="Xie, Fang, Gong, CVPR 2025 (PoisonedFL), section 4 (number not checked)",
        formula="factor ||g|| (e / ||e||) * signs, g = w_t - w_{t-1}, "
        "e = |g - v_{t-1} ||g|| / ||v_{t-1}|| |",
        breaks="the median, the trimmed mean and norm bounds, over thousands of rounds",
        resists="none is known for certain; it needs a fifth of the clients and many rounds",
        differs="the authors' release knows the 99 % quantile of four model sizes alone, and where "
        "a coordinate did not move it looks at the sign of the model there",
    )

    def __post_init__(self) -> None:
        number("factor", self.factor, above=0.0)
        number("decay", self.decay, above=0.0, most=1.0)
        whole_number("every", self.every, 1)
        whole_number("seed", self.seed, 0)

    @property
    def needs(self) -> frozenset[Need]:
        """The global models, and an honest update to begin with."""
        return frozenset({"own", "model", "memory"})

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send; at first, a row each."""
        memory, model = scene.required("memory"), scene.required("model")
        if "model" not in memory:
            own: Float64 = scene.required("own")
            start = {"model": model, "sent": np.zeros(len(model)), "checked": model}
            memory.update({name: array.copy() for name, array in start.items()})
            memory["rounds"], memory["factor"] = np.array(1), np.array(self.factor)
            return own
        signs = self.signs(len(model))
        if int(memory["rounds"]) % self.every == 0:
            self._check(memory, model, signs)
        row = float(memory["factor"]) * _shaped(model - memory["model"], memory["sent"]) * signs
        memory["model"], memory["sent"] = model.copy(), row
        memory["rounds"] = np.array(int(memory["rounds"]) + 1)
        return row

    def signs(self, d: int) -> Float64:
        """Return the direction (d,), of entries -1 and +1."""
        return np.random.default_rng(self.seed).choice(np.array([-1.0, 1.0]), d)

    def _check(self, memory: MutableMapping[str, Array], model: Array, signs: Array) -> None:
        """Reduce the factor if the model did not go along."""
        d, factor = len(model), float(memory["factor"])
        along = np.count_nonzero(np.sign(model - memory["checked"]) == signs)
        failed = along < d / 2 + QUANTILE * math.sqrt(d) / 2
        if failed and self.decay * factor >= LEAST:
            memory["factor"] = np.array(self.decay * factor)
        memory["checked"] = model.copy()


def _shaped(step: Float64, sent: Float64) -> Float64:
    """Return ``||g|| e / ||e||``."""
    norm, before = length(step), length(sent)
    beside = np.abs(step - sent * (norm / before)) if before > 0.0 else np.abs(step)
    size = length(beside)
    return norm * (beside / size) if size > 0.0 else np.zeros(len(step))
