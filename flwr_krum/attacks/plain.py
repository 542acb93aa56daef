"""Updates that nobody trained for: constants, noise, nothing, and what is no number.

No single source: these are the usual failures, and the first thing that an attacker tries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.checks import number, one_of
from flwr_krum.kernel.arrays import Float64

Zeroed: TypeAlias = Literal["update", "model"]
NoNumber: TypeAlias = Literal["nan", "inf", "minus-inf"]

NO_NUMBERS: dict[NoNumber, float] = {"nan": np.nan, "inf": np.inf, "minus-inf": -np.inf}


@dataclass(frozen=True)
class Constant(Attack):
    """Send the same number in every coordinate of the update.

    Parameters
    ----------
    value : float (default: 1)

    Raises
    ------
    ValueError
        If it is not finite.
    """

    value: float = 1.0

    knowledge = "none"
    facts = AttackFacts(
        source="common",
        formula="(value, ..., value)",
        breaks="the mean",
        resists="every robust rule",
        differs="some send it as a model instead of an update",
    )

    def __post_init__(self) -> None:
        number("value", self.value)

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        return np.full(scene.honest.shape[1], self.value)


@dataclass(frozen=True)
class Random(Attack):
    """Send numbers drawn from ``U[low, high)``, independent in all coordinates and attackers.

    Parameters
    ----------
    low, high : float (default: -1, 1)

    Raises
    ------
    ValueError
        If one is not finite, or low > high.
    """

    low: float = -1.0
    high: float = 1.0

    knowledge = "none"
    facts = AttackFacts(
        source="common",
        formula="u_ij ~ U[low, high), independent",
        breaks="the mean, where the range is large",
        resists="every robust rule",
        differs="some send it as a model instead of an update",
    )

    def __post_init__(self) -> None:
        number("low", self.low)
        number("high", self.high, least=self.low)

    def rows(self, scene: Scene) -> Float64:
        """Draw one row for each attacker."""
        share: Float64 = scene.rng.random((scene.f, scene.honest.shape[1]))
        return (1.0 - share) * self.low + share * self.high


@dataclass(frozen=True)
class Zero(Attack):
    """Send nothing: the update 0, that is the global model; or the model 0, the update ``-w``.

    Parameters
    ----------
    of : "update" | "model" (default: "update")

    Raises
    ------
    ValueError
        If there is no such ``of``.
    """

    of: Zeroed = "update"

    knowledge = "none"
    facts = AttackFacts(
        source="common",
        formula="0, or -w",
        breaks="of=model: the mean, and rules that choose by norms about the origin, such as CGE",
        resists="of=update: every rule, it only slows",
    )

    def __post_init__(self) -> None:
        one_of("of", self.of, ("update", "model"))

    @property
    def needs(self) -> frozenset[Need]:
        """The global model, where another one is sent."""
        return frozenset({"model"}) if self.of == "model" else frozenset()

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        if self.of == "update":
            return np.zeros(scene.honest.shape[1])
        model: Float64 = scene.required("model")
        return -model


@dataclass(frozen=True)
class NonFinite(Attack):
    """Send NaN or an infinite number in every coordinate.

    Parameters
    ----------
    value : "nan" | "inf" | "minus-inf" (default: "nan")

    Raises
    ------
    ValueError
        If there is no such value.
    """

    value: NoNumber = "nan"

    knowledge = "none"
    facts = AttackFacts(
        source="common",
        formula="(value, ..., value)",
        breaks="servers that do not look at what they average, and rules that sort NaN",
        resists="every strategy of this package: the intake refuses such a reply by name",
    )

    def __post_init__(self) -> None:
        one_of("value", self.value, tuple(NO_NUMBERS))

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        return np.full(scene.honest.shape[1], NO_NUMBERS[self.value])
