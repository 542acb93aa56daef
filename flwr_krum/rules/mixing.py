"""What comes before a rule: a matrix that mixes the updates, and the rule that sees the mixtures.

``mixing | rule`` is a rule again, and ``mixing | mixing`` a mixing. A mixing is a small frozen
value: it says what it makes of the geometry (``matrix``), and how many rows are left (``rows``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, overload

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import Facts
from flwr_krum.rules.rule import Choice, Rule, Weighs

MOST_CLIENTS = 100_000
"""Clients up to which a requirement is searched for."""


@dataclass(frozen=True)
class Mixing(ABC):
    """A matrix that mixes n updates before a rule sees them; subclasses are frozen dataclasses.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate; None is as many as the rule behind tolerates.
    """

    f: int | None = None

    requirement: ClassVar[str] = "n >= 1"
    """What ``least`` asks for, in words."""

    facts: ClassVar[Facts]
    """What a mixing that has a name says of itself."""

    def __post_init__(self) -> None:
        if self.f is not None:
            whole_number("f", self.f, 0)

    @abstractmethod
    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return M (m, n); what a row lacks of the sum 1 lies on the global model."""

    weighs: ClassVar[bool] = False
    """Whether the mixing has a definition with declared weights."""

    @property
    def is_ranking(self) -> bool:
        """Whether it ranks distances, and takes those in float32 where they decide."""
        return False

    def weighed(self, geometry: Geometry, shares: Float64) -> Float64:
        """Return M (n, n) where the clients have shares (n,), of sum 1, and ``weighs`` is True."""
        raise NotImplementedError(f"{type(self).__name__} has no definition with declared weights")

    def rows(self, n: int) -> int:
        """Return m, how many rows the rule behind sees."""
        return n

    def least(self, f: int) -> int:
        """Return the smallest legal n for f Byzantine clients."""
        return 1

    def fitted(self, n: int, f: int) -> Self:
        """Return the mixing as it applies to n clients of which f may be Byzantine."""
        return replace(self, f=f)

    def seeded(self, seed: int) -> Self:
        """Return the mixing with a seed for what it draws, where it draws and has none."""
        return self

    @overload
    def __or__(self, behind: Rule) -> Chain: ...
    @overload
    def __or__(self, behind: Mixing) -> Mixings: ...
    def __or__(self, behind: Rule | Mixing) -> Chain | Mixings:
        if isinstance(behind, Rule):
            return Chain(behind.f, strict=behind.strict, mixing=self, rule=behind)
        if isinstance(behind, Mixing):
            return Mixings(self.f, (self, behind))
        return NotImplemented


@dataclass(frozen=True, repr=False)
class Mixings(Mixing):
    """Mixings one after the other."""

    parts: tuple[Mixing, ...] = ()

    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return the product of the parts' matrices."""
        product: Float64 = np.eye(geometry.n)
        for part in self.parts:
            M = part.matrix(geometry, server_round)
            geometry, product = geometry.mixed(M), M @ product
        return product

    @property
    def is_ranking(self) -> bool:
        """Whether a part does."""
        return any(part.is_ranking for part in self.parts)

    def rows(self, n: int) -> int:
        """Return how many rows the last part leaves."""
        for part in self.parts:
            n = part.rows(n)
        return n

    def least(self, f: int) -> int:
        """Return the smallest n with which every part has what it needs."""
        return _smallest(lambda n: self._suffice(n, f))

    def _suffice(self, n: int, f: int) -> bool:
        for part in self.parts:
            if n < part.least(f):
                return False
            n = part.rows(n)
        return True

    def fitted(self, n: int, f: int) -> Self:
        """Return all parts for f Byzantine clients."""
        parts = tuple(part.fitted(n, _at_most(part.f, f)) for part in self.parts)
        return replace(self, f=f, parts=parts)

    def seeded(self, seed: int) -> Self:
        """Return all parts with a seed."""
        return replace(self, parts=tuple(part.seeded(seed) for part in self.parts))

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts))


@dataclass(frozen=True, repr=False)
class Chain(Rule):
    """A rule behind a mixing: ``rule.choose(geometry.mixed(M)).after(M)``."""

    mixing: Mixing = field(kw_only=True)
    rule: Rule = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.f is None and self.mixing.f is not None:
            object.__setattr__(self, "f", self.mixing.f)
        super().__post_init__()
        self.least(self.f or 0)  # raises where no number of clients would do

    def least(self, f: int) -> int:
        """Return the smallest n with which the mixing and the rule behind it have enough."""
        return _smallest(lambda n: self.suffices(n, f))

    def suffices(self, n: int, f: int) -> bool:
        """Say whether n clients are enough for the mixing, and its rows for the rule."""
        return n >= self.mixing.least(f) and self.rule.suffices(self.mixing.rows(n), f)

    def fitted(self, n: int, f: int) -> Self:
        """Return both parts for n clients of which f may be Byzantine."""
        mixing = self.mixing.fitted(n, _at_most(self.mixing.f, f))
        rule = self.rule.fitted(mixing.rows(n), _at_most(self.rule.f, f))
        return replace(self, f=f, mixing=mixing, rule=rule)

    def degraded(self) -> Self:
        """Return the chain without its requirement on n."""
        return replace(self, strict=False, rule=self.rule.degraded())

    def seeded(self, seed: int) -> Self:
        """Return both parts with a seed."""
        return replace(self, mixing=self.mixing.seeded(seed), rule=self.rule.seeded(seed))

    @property
    def is_bounded(self) -> bool:
        """Whether the rule behind is."""
        return self.rule.is_bounded

    @property
    def is_coordinate_wise(self) -> bool:
        """Whether the rule behind is."""
        return self.rule.is_coordinate_wise

    @property
    def server_rows(self) -> tuple[str, ...]:
        """What the rule behind asks for."""
        return self.rule.server_rows

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Mix, let the rule choose among the mixed rows, and say it in terms of the clients."""
        f = self.liars(geometry.n)
        fitted = self.fitted(geometry.n, f)
        if fitted.mixing.is_ranking and not fitted.rule.is_ranking:
            _ = geometry.squared  # the rule will need it: no rough ones for the mixing alone
        M = fitted.mixing.matrix(geometry, server_round)
        return fitted.rule.choose(geometry.mixed(M), server_round).after(M)

    @property
    def weighs(self) -> Weighs | None:  # type: ignore[override]
        """As copies, where both parts have a definition for that."""
        return "copies" if self.mixing.weighs and self.rule.weighs == "copies" else None

    def weigh(self, geometry: Geometry, server_round: int, shares: Float64) -> Choice:
        """Mix by shares, and let the rule weigh the mixed rows by the same."""
        fitted = self.fitted(geometry.n, self.liars(geometry.n))
        M = fitted.mixing.weighed(geometry, shares)
        return fitted.rule.weigh(geometry.mixed(M), server_round, shares).after(M)

    @property
    def requirement(self) -> str:  # type: ignore[override]
        """What both parts need together."""
        return f"n >= {self.least(self.f or 0)}"

    def __repr__(self) -> str:
        return f"{self.mixing!r} | {self.rule!r}"


def _at_most(own: int | None, f: int) -> int:
    """Return the f in force of a part: its own where it was given one that is smaller."""
    return f if own is None else min(own, f)


def _smallest(suffices: Callable[[int], bool]) -> int:
    """Return the smallest n that suffices.

    Raises
    ------
    ValueError
        If none does.
    """
    for n in range(1, MOST_CLIENTS):
        if suffices(n):
            return n
    raise ValueError(f"the chain can never run: no n up to {MOST_CLIENTS} leaves its rule enough")
