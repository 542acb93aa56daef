"""Just beyond the honest values, against the way they go. Source: Fang et al., USENIX Sec. 2020."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Knowledge, Need, Scene
from flwr_krum.checks import number, one_of
from flwr_krum.kernel.arrays import Float64

Known: TypeAlias = Literal["full", "partial"]
Space: TypeAlias = Literal["model", "update"]


@dataclass(frozen=True)
class FangTrimmedMean(Attack):
    """Draw each coordinate beyond the honest values, where the global model does not go.

    In a coordinate where the mean of the known updates goes up, models are drawn below the
    smallest honest one, x_min: from ``[x_min / b, x_min]`` if ``x_min > 0``, else from
    ``[b x_min, x_min]``; where it goes down, above the largest one: from ``[x_max, b x_max]`` if
    ``x_max > 0``, else from ``[x_max, x_max / b]``. With partial knowledge they are drawn from
    ``[m - 4t, m - 3t]`` and ``[m + 3t, m + 4t]``, m and t being mean and standard deviation of the
    attackers' own; a lone attacker has no deviation, and sends its own. Each attacker draws for
    itself. Where the mean does not move, it is sent.

    Parameters
    ----------
    known : "full" | "partial" (default: "full")
        Whether every honest update is known, or those of the attackers alone.
    space : "model" | "update" (default: "model")
        What the intervals of full knowledge, which grow about the origin, are of: the paper's
        clients send models. With partial knowledge both are the same.
    b : float (default: 2)

    Raises
    ------
    ValueError
        If there is no such knowledge or space, or b is below 1 or not finite.
    """

    known: Known = "full"
    space: Space = "model"
    b: float = 2.0

    facts = AttackFacts(
        source="Fang, Cao, Jia, Gong, USENIX Security 2020, section 4.3 (number not checked)",
        formula="per coordinate, independent draws: from [x_max, b x_max] or [x_max, x_max/b] "
        "where mu < 0, from [x_min/b, x_min] or [b x_min, x_min] where mu > 0; partial: from "
        "[m + 3t, m + 4t] and [m - 4t, m - 3t]",
        breaks="the trimmed mean and the median, by the honest spread in every round",
        resists="rules that choose by distances",
        differs="NDSS21's release sends 0 where mu < 0; CRYPTO-KU sends the far end without a "
        "draw; Blades draws one vector for all",
    )

    def __post_init__(self) -> None:
        one_of("known", self.known, ("full", "partial"))
        one_of("space", self.space, ("model", "update"))
        number("b", self.b, least=1.0)

    @property
    def knowledge(self) -> Knowledge:  # type: ignore[override]
        """All, or that of the attackers."""
        return "all" if self.known == "full" else "colluding"

    @property
    def needs(self) -> frozenset[Need]:
        """The global model, where intervals are about its origin."""
        about_models = self.known == "full" and self.space == "model"
        return frozenset({"model"}) if about_models else frozenset()

    def rows(self, scene: Scene) -> Float64:
        """Draw one row for each attacker."""
        mean = scene.mean
        if self.known == "full":
            low, high = self._beyond_all(scene, mean)
        else:
            spread = scene.deviation()
            low = mean + np.where(mean > 0.0, -4.0, 3.0) * spread
            high = low + spread
        draws = low + (high - low) * scene.rng.random((scene.f, len(mean)))
        return np.where(mean == 0.0, mean, draws)

    def _beyond_all(self, scene: Scene, mean: Float64) -> tuple[Float64, Float64]:
        """Return the ends of the intervals, as updates."""
        model: Float64 = scene.required("model") if "model" in self.needs else np.zeros(len(mean))
        top, bottom = scene.honest.max(axis=0) + model, scene.honest.min(axis=0) + model
        highest = np.where(top > 0.0, self.b * top, top / self.b)
        lowest = np.where(bottom > 0.0, bottom / self.b, self.b * bottom)
        up = mean > 0.0
        return np.where(up, lowest, top) - model, np.where(up, bottom, highest) - model
