"""What every aggregation rule is: the geometry of n client updates in, a choice out.

A rule is a small frozen value that is called. It says how many clients it needs for f liars
(``least``) and what it makes of their geometry (``choose``); everything else is the same for all.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property, reduce
from typing import ClassVar, Final, Literal, Self, TypeAlias

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.combine import combine
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.ranking import Ranking
from flwr_krum.kernel.shares import are_alike, heaviest
from flwr_krum.kernel.sorting import WeightedWindow, Window
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.facts import Facts

ROOT: Final = "root"
"""The row of a model of the server's own."""

STEP: Final = "step"
"""The row of the global model moved by the last step again."""

Weighs: TypeAlias = Literal["selected", "copies"]
"""How declared weights count: in the mean of those that are selected without them, or as if each
client stood there so many times."""

_MANY = 1000
"""Clients among which any robust rule tolerates some."""

HALF: Final = 0.5 - 1e-6
"""The share that liars must stay below where weights count as copies, less what is rounding."""


@dataclass(frozen=True)
class Choice:
    """What a rule decides: rows mixed from the clients, then a window of the sorted rows.

    Attributes
    ----------
    mix : (k, n) or (k, n + s)
        A weight for each client, and for each row of the server where the rule uses them. What a
        row lacks of the sum 1 lies on the global model.
    window : Window or WeightedWindow, optional
        Which of the k sorted values are averaged, per coordinate; None where k is 1.
    selected : indices
        The clients that the result is made of, best first.
    scores : (n,), optional
    note : str
        What the round's report should tell of the choice.
    """

    mix: Float64
    window: Window | WeightedWindow | None = None
    selected: tuple[int, ...] = ()
    scores: Float64 | None = None
    note: str = ""

    @classmethod
    def of_weights(
        cls, weights: Float64, n: int, scores: Float64 | None = None, note: str = ""
    ) -> Choice:
        """Give each client its weight; selected are those of any weight, the heaviest first."""
        return cls(weights[None, :], None, _heaviest(np.abs(weights[:n])), scores, note)

    @classmethod
    def uniform(cls, n: int, selected: Sequence[int]) -> Choice:
        """Give every selected client the same weight."""
        weights = np.zeros((1, n))
        weights[0, list(selected)] = 1.0 / len(selected)
        return cls(weights, None, tuple(selected))

    @classmethod
    def best(cls, ranking: Ranking) -> Choice:
        """Give the best of a ranking the same weight each."""
        uniform = cls.uniform(len(ranking.scores), ranking.best)
        return replace(uniform, scores=ranking.scores, note=ranking.note)

    @classmethod
    def of_sorted(
        cls, n: int, window: Window | WeightedWindow, rows: Sequence[int] | None = None
    ) -> Choice:
        """Sort the values of some clients (by default all) and average a window of them."""
        chosen = range(n) if rows is None else rows
        return cls(np.eye(n)[list(chosen)], window, tuple(chosen))

    @classmethod
    def among_near(cls, geometry: Geometry, choose: Callable[[Geometry], Choice]) -> Choice:
        """Return the choice without rows that are infinitely far, to which no weight would fit."""
        if geometry.near.all() or not geometry.near.any():
            return choose(geometry)
        M = np.eye(geometry.n)[geometry.near]
        return choose(geometry.mixed(M)).after(M)

    def weighed(self, shares: Float64) -> Choice:
        """Return the mean of the same clients by their shares (n,), best first.

        Raises
        ------
        ValueError
            If the choice is not the mean of some clients.
        """
        held = self.mix[self.mix != 0.0]
        if self.window is not None or abs(held.sum() - 1.0) > 1e-9 or not are_alike(held):
            raise ValueError("shares weigh the mean of the selected: the choice is no mean of some")
        row = np.where(self.mix[0] > 0.0, shares, 0.0)
        row /= row.max()
        return replace(self, mix=row[None, :] / row.sum())

    def after(self, M: Float64) -> Choice:
        """Return the choice over the clients that makes this one over the rows of M.

        Scores belong to rows; they stay where row i is what became of client i.
        """
        m, n = M.shape
        mix = self.mix[:, :m] @ M
        server = self.mix[:, m:]
        shares = np.abs(mix).sum(axis=0)
        scores = self.scores if m == n else None
        return Choice(np.hstack([mix, server]), self.window, _heaviest(shares), scores, self.note)


def _heaviest(shares: Float64) -> tuple[int, ...]:
    order = np.argsort(-shares, kind="stable")
    return tuple(int(i) for i in order if shares[i] > 0.0)


@dataclass(frozen=True)
class Aggregate:
    """The result of a rule: the aggregate in the models' layers, and how it was chosen.

    Attributes
    ----------
    layers : tuple of arrays
    choice : Choice
    geometry : ClientGeometry
        What the rule saw of the updates.
    """

    layers: tuple[Array, ...]
    choice: Choice = field(repr=False)
    geometry: ClientGeometry = field(repr=False)

    @cached_property
    def vector(self) -> Array:
        """The aggregate as one vector (d,)."""
        if len(self.layers) == 1:
            return self.layers[0].ravel()
        return np.concatenate([layer.ravel() for layer in self.layers])

    @property
    def weights(self) -> Float64 | None:
        """Weights (n,) of the clients, the rest to 1 on the global model; None for a window."""
        choice = self.choice
        return choice.mix[0, : self.geometry.n] if choice.window is None else None

    @property
    def selected(self) -> tuple[int, ...]:
        """The clients that the aggregate is made of, best first."""
        return self.choice.selected

    @property
    def scores(self) -> Float64 | None:
        """Scores (n,), where the rule has any."""
        return self.choice.scores


@dataclass(frozen=True)
class Rule(ABC):
    """A map from n client updates to one aggregate; subclasses are frozen dataclasses.

    A subclass writes ``least`` and ``choose``, and says in ``requirement`` what ``least`` means.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate; None is as many as the rule tolerates among n.
    strict : bool
        False allows an f that is illegal for n.

    Raises
    ------
    ValueError
        If f is no integer >= 0 or, when called, illegal for n; if strict is no bool.
    """

    f: int | None = None
    strict: bool = field(default=True, kw_only=True)

    requirement: ClassVar[str] = "n >= 1"
    """What ``least`` asks for, in words."""

    facts: ClassVar[Facts]
    """What a rule that has a name says of itself."""

    weighs: ClassVar[Weighs | None] = None
    """How declared weights count, see `Weighs`; None where the rule has no definition with them."""

    is_ranking: ClassVar[bool] = False
    """Whether it ranks, or reads coordinates: distances in float32 then decide what they can."""

    in_proposition_1: ClassVar[bool] = False
    """Whether the paper's Proposition 1 is about the rule."""

    @property
    def is_bounded(self) -> bool:
        """Whether f clients can move the result only so far, or one of them anywhere."""
        return True

    @property
    def is_coordinate_wise(self) -> bool:
        """Whether the result depends on the order of the values in single coordinates."""
        return False

    @property
    def server_rows(self) -> tuple[str, ...]:
        """Names of the rows that the server must add, `ROOT` or `STEP`, for the rule to run."""
        return ()

    def __post_init__(self) -> None:
        if self.f is not None:
            whole_number("f", self.f, 0)
        if not isinstance(self.strict, bool):
            raise ValueError(f"strict must be True or False, got {self.strict!r}")

    def __str__(self) -> str:
        """Return the rule as ``repr`` does, with names for functions: the same in every process."""
        text = repr(self)
        # Most have nothing of the kind, and a round of a small model takes a millisecond.
        return _ADDRESS.sub("", _with_names(text, self)) if " at 0x" in text else text

    @abstractmethod
    def least(self, f: int) -> int:
        """Return the smallest legal n for f Byzantine clients; it grows with f."""

    @abstractmethod
    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Return what is made of the rows; ``check`` has passed."""

    def weigh(self, geometry: Geometry, server_round: int, shares: Float64) -> Choice:
        """Return what is made of the rows where they have shares (n,), of sum 1, not all equal.

        By default those of the clients that are selected without them.
        """
        return self.choose(geometry, server_round).weighed(shares)

    def most(self, n: int) -> int:
        """Return the largest f that is legal among n clients; -1 where not even 0 is."""
        return next((f for f in range(n, -1, -1) if self.suffices(n, f)), -1)

    @property
    def bears_liars(self) -> bool:
        """Whether there is a number of clients among which a Byzantine one is tolerated."""
        return self.most(_MANY) > 0

    def suffices(self, n: int, f: int) -> bool:
        """Say whether n clients are enough for f Byzantine ones."""
        return n >= self.least(f)

    def liars(self, n: int) -> int:
        """Return how many of n clients the rule is to bear: f, or as many as it can."""
        return max(0, self.most(n)) if self.f is None else self.f

    @property
    def least_clients(self) -> int:
        """The smallest legal n."""
        return self.least(self.f or 0) if self.strict else 1

    def fitted(self, n: int, f: int) -> Self:
        """Return the rule as it applies to n clients of which f may be Byzantine."""
        return replace(self, f=f)

    def degraded(self) -> Self:
        """Return the rule without its requirement on n."""
        return replace(self, strict=False)

    def seeded(self, seed: int) -> Self:
        """Return the rule with a seed for what it draws, where it draws and has none."""
        return self

    def check(self, n: int) -> None:
        """Raise ValueError if n clients are too few for the rule, saying what would be legal."""
        f = self.f or 0
        if self.strict and not self.suffices(n, f):
            most = self.most(n)
            legal = f"n >= {self.least(f)} at f={f}"
            if most >= 0:
                legal = f"f <= {most} at n={n}, or {legal}"
            raise ValueError(
                f"{type(self).__name__} needs {self.requirement}, got n={n}, f={f}; legal: "
                f"{legal} (strict=False allows it, without the paper's guarantee)"
            )

    def outweighed(self, n: int) -> int:
        """Return how many of n clients must hold less than half where weights count as copies."""
        return self.liars(n)

    def check_shares(self, shares: Float64) -> None:
        """Raise ValueError if the rule cannot run on clients with these shares (n,), of sum 1."""
        name = type(self).__name__
        if self.weighs is None:
            raise ValueError(f"{name} has no definition with declared weights: leave them out")
        f = self.outweighed(len(shares))
        held = heaviest(shares, f)
        if self.weighs == "copies" and held >= HALF and not are_alike(shares):
            raise ValueError(
                f"{name} needs f sites to hold less than half of the weight, the {f} heaviest hold "
                f"{held:.1%}: lower f, or cap the weights"
            )

    def __call__(
        self,
        updates: Array | ClientUpdates,
        *,
        server_round: int = 1,
        shares: Float64 | None = None,
    ) -> Aggregate:
        """Aggregate n updates.

        Parameters
        ----------
        updates : (n, d) array or ClientUpdates
            One row or model per client, in the clients' order; ties go to the smallest index.
        server_round : int
            The round t >= 1, for rules that depend on it.
        shares : (n,), optional
            How much each client counts, of sum 1; equal shares are none.

        Raises
        ------
        ValueError
            If n, a parameter for this n or round, or a share is illegal; if too few updates are
            finite.
        """
        if not isinstance(updates, ClientUpdates):
            updates = ClientUpdates.from_matrix(updates)
        self.check(updates.n)
        geometry = ClientGeometry(updates)
        if shares is not None:
            _check_sum(shares, updates.n)
            self.check_shares(shares)
        if shares is None or are_alike(shares):
            choice = self.choose(geometry, server_round)
        else:
            choice = self.weigh(geometry, server_round, shares)
        return Aggregate(combine(updates, choice.mix, choice.window), choice, geometry)


_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def _with_names(text: str, value: object) -> str:
    """Replace the representations of functions by their qualified names.

    Those of the value itself, and of what it is made of.
    """
    if is_dataclass(value):
        value = tuple(vars(value).values())
    if isinstance(value, tuple | list):
        return reduce(_with_names, value, text)
    name = getattr(value, "__qualname__", None)
    return text.replace(repr(value), f"{value.__module__}.{name}") if name else text


def _check_sum(shares: Float64, n: int) -> None:
    is_share = shares.shape == (n,) and (shares > 0.0).all()
    if not (is_share and abs(float(shares.sum()) - 1.0) < 1e-9):
        raise ValueError(f"expected a share > 0 for each of {n} clients, of sum 1, got {shares}")
