"""Inner product manipulation and "a little is enough", the factor searched for the rule in force.

Sources: Xie, Koyejo, Gupta, UAI 2019 (IPM); Baruch, Baruch, Goldberg, NeurIPS 2019 (ALIE); that
the factor is searched: El Mhamdi, Guerraoui, Rouault, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.attacks.factors import SEEKERS, Noted, Seeker
from flwr_krum.attacks.search import Search, finite_rows
from flwr_krum.checks import one_of, whole_number
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.updates import BLOCK

Sign: TypeAlias = Literal["both", "minus", "plus"]

VERIFIED = 3
"""Factors that are tried on the rows themselves: beside a jump, rounding decides."""


class Line(NamedTuple):
    """Candidates ``(centre + g direction) B``, g >= 0."""

    name: str
    centre: Float64
    direction: Float64

    def at(self, factor: float) -> Float64:
        """Return the coefficients of a factor."""
        return self.centre + factor * self.direction


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    name : str
        The direction, or the attack, that won.
    factor : float
    damage : float
        On the rows themselves where there was more than one to choose from.
    rows : (f, d)
    """

    name: str
    factor: float
    damage: float
    rows: Float64


def most_damaging(search: Search, lines: Iterable[Line], seeker: Seeker = "grid") -> Found:
    """Return the factor, on the best of some lines, that does most."""
    with one_blas_thread():
        return _most_damaging(search, lines, seeker)


def _most_damaging(search: Search, lines: Iterable[Line], seeker: Seeker) -> Found:
    found: list[tuple[float, float, Line]] = []
    for line in lines:
        noted = Noted(lambda factor, line=line: search.attempt(line.at(factor)))  # type: ignore[misc]
        best = SEEKERS[seeker](noted)
        tops = noted.best(VERIFIED) if seeker == "grid" else [best]
        found += [(noted(factor), factor, line) for factor in tops]
    found.sort(key=lambda each: -each[0])
    candidates = [
        Found(line.name, factor, damage, search.rows(line.at(factor)))
        for damage, factor, line in found[: VERIFIED if seeker == "grid" else 1]
    ]
    if len(candidates) == 1:  # there is nothing to choose from
        return candidates[0]
    tried = [replace(each, damage=search.damage_of_rows(each.rows)) for each in candidates]
    return max(tried, key=lambda each: each.damage)


@dataclass(frozen=True)
class OptimalIPM(Attack):
    """Send ``-g mu`` with the g that takes the rule's result farthest from the honest mean mu.

    Parameters
    ----------
    search : "grid" | "byzfl" | "byzantine-momentum" (default: "grid")
        How g is searched; the last two as these projects do, of which ByzFL's stands for its rule
        behind Clipping(2), where none is named.

    Raises
    ------
    ValueError
        If there is no such search; in a scene, if the rule cannot run on h + f clients.
    """

    search: Seeker = "grid"

    facts = AttackFacts(
        source="Xie, Koyejo, Gupta, UAI 2019; searched as in El Mhamdi et al., ICLR 2021",
        formula="-g mu, g >= 0 of largest ||F - mu||",
        breaks="the mean; Krum and Multi-Krum most of the robust rules",
        resists="median and trimmed mean, where more of it is no worse; NNM before a rule",
        differs="ByzFL: 20 evaluations, and by default Clipping(2) in the rule it simulates; here "
        "the rule is the one in force",
    )

    def __post_init__(self) -> None:
        one_of("search", self.search, get_args(Seeker))

    @property
    def needs(self) -> frozenset[Need]:
        """The rule."""
        return frozenset({"rule"})

    def found(self, scene: Scene) -> Found:
        """Return the factor, and what it does."""
        search = Search(scene)
        line = Line("-mu", np.zeros(search.p), -search.mean_coefficients)
        return most_damaging(search, [line], self.search)

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send, and note its factor."""
        found = self.found(scene)
        scene.note_factor(found.factor)
        return found.rows


@dataclass(frozen=True)
class OptimalALIE(Attack):
    """Send ``mu +- g sigma`` with the g that takes the rule's result farthest from mu.

    Parameters
    ----------
    search : "grid" | "byzfl" | "byzantine-momentum" (default: "grid")
        As for OptimalIPM.
    sign : "both" | "minus" | "plus" (default: "both")
    ddof : int (default: 1)
        Of the standard deviation sigma.

    Raises
    ------
    ValueError
        If an argument is not legal; in a scene, if the rule cannot run on h + f clients.
    """

    search: Seeker = "grid"
    sign: Sign = "both"
    ddof: int = 1

    facts = AttackFacts(
        source="Baruch, Baruch, Goldberg, NeurIPS 2019; searched as in El Mhamdi et al., ICLR 2021",
        formula="mu + g sigma or mu - g sigma, g >= 0 of largest ||F - mu||",
        breaks="Krum, Multi-Krum, Bulyan, geometric median",
        resists="NNM before a rule, small sigma: large batches and momentum at the clients",
        differs="ByzFL: mu + g sigma alone, 20 evaluations, and by default Clipping(2)",
    )

    def __post_init__(self) -> None:
        one_of("search", self.search, get_args(Seeker))
        one_of("sign", self.sign, get_args(Sign))
        whole_number("ddof", self.ddof, 0)

    @property
    def needs(self) -> frozenset[Need]:
        """The rule."""
        return frozenset({"rule"})

    def found(self, scene: Scene) -> Found:
        """Return the sign and the factor, and what they do."""
        search = Search(scene, deviation_of(finite_rows(scene.honest), self.ddof)[None, :])
        sigma = np.eye(search.p)[-1]
        signs = {"minus": -1.0, "plus": 1.0}
        chosen = [name for name in signs if self.sign in ("both", name)]
        mean = search.mean_coefficients
        lines = [Line(f"mu {name} sigma", mean, signs[name] * sigma) for name in chosen]
        return most_damaging(search, lines, self.search)

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send, and note its factor."""
        found = self.found(scene)
        scene.note_factor(found.factor)
        return found.rows


def deviation_of(honest: Float64, ddof: int) -> Float64:
    """Return the standard deviation (d,) of finite rows; 0 where no float holds it."""
    if len(honest) <= ddof:
        return np.zeros(honest.shape[1])
    deviation = np.empty(honest.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(deviation), BLOCK):  # NumPy makes three copies of what it gets
            columns = slice(start, start + BLOCK)
            honest[:, columns].std(axis=0, ddof=ddof, out=deviation[columns])
    return np.where(np.isfinite(deviation), deviation, 0.0)
