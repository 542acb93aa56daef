"""What a rule says of itself beside its requirement; docs/rules.md is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Invariance = Literal["permutation", "translation", "scaling", "rotation", "negation"]
"""A map of the updates after which the result is mapped in the same way.

With the arguments that a rule has by default, or any length C that cuts some updates. The rows of
the server's own are mapped along, the global model stays. Permutation changes no result at all; it
and negation hold up to ties, where these are rare.
"""

ALL: Final[tuple[Invariance, ...]] = get_args(Invariance)

PER_COORDINATE: Final[tuple[Invariance, ...]] = tuple(kind for kind in ALL if kind != "rotation")
"""Those of a rule that looks at each coordinate by itself."""

AROUND_MODEL: Final[tuple[Invariance, ...]] = tuple(kind for kind in ALL if kind != "translation")
"""Those of a rule for which the global model is a place like no other."""

ORDERED: Final[tuple[Invariance, ...]] = tuple(kind for kind in ALL if kind != "permutation")
"""Those of a rule that the order of the clients decides, by draws or by ties that are not rare."""


@dataclass(frozen=True)
class Kappa:
    """The coefficient of (f, kappa)-robustness that a paper proves for a rule.

    ``||F - mean_S||^2 <= kappa 1/|S| sum_{i in S} ||V_i - mean_S||^2`` for every S of n - f
    clients; none is below ``f / (n - 2f)`` (Allouah et al., AISTATS 2023).

    Attributes
    ----------
    formula, source : str
    checked : bool
        Whether the constant was read in the paper's text; else it is no theorem here.
    """

    formula: str
    source: str
    checked: bool

    def __str__(self) -> str:
        said = self.source if self.checked else f"{self.source}; not checked"
        return f"`{self.formula}` ({said})"


@dataclass(frozen=True)
class Facts:
    """What a rule or a mixing says of itself.

    Attributes
    ----------
    source : str
        Where its requirement comes from.
    breakdown : str
        Share of liars among many clients up to which the result stays within a bound.
    cost : str
        For n updates of d numbers, as it is computed here.
    invariances : tuple of Invariance
    kappa : Kappa or str
        The coefficient, or why there is none.
    """

    source: str
    breakdown: str
    cost: str
    invariances: tuple[Invariance, ...]
    kappa: Kappa | str = "none known here"
