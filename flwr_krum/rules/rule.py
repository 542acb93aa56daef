"""What every aggregation rule is: n client updates in, one aggregate out.

A rule is a small frozen value that is called. It knows its own requirement on the number of
clients (``check``) and turns n updates into weights (``choose``); the weighted mean is the same
for all of them.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, is_dataclass, replace
from functools import reduce
from typing import Self

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.combine import weighted_mean
from flwr_krum.kernel.ranking import Ranking
from flwr_krum.kernel.updates import ClientUpdates


@dataclass(frozen=True)
class Choice:
    """What a rule decides: weights (n,) that sum to 1, indices best first, and the ranking."""

    weights: Float64
    selected: tuple[int, ...]
    ranking: Ranking | None = None

    @classmethod
    def uniform(cls, n: int, selected: tuple[int, ...]) -> Choice:
        """Give every selected client the same weight."""
        weights = np.zeros(n)
        weights[list(selected)] = 1.0 / len(selected)
        return cls(weights, selected)

    @classmethod
    def best(cls, ranking: Ranking) -> Choice:
        """Give the best of a ranking the same weight each."""
        uniform = cls.uniform(len(ranking.scores), ranking.best)
        return replace(uniform, ranking=ranking)


@dataclass(frozen=True)
class Aggregate:
    """The result of a rule: the aggregate in the models' layers, and how it was chosen.

    ``ranking`` is what the rule saw of the updates, where it compared them.
    """

    layers: tuple[Array, ...]
    weights: Float64 | None
    selected: tuple[int, ...]
    scores: Float64 | None
    ranking: Ranking | None = field(default=None, repr=False)

    @property
    def vector(self) -> Array:
        """The aggregate as one vector (d,)."""
        if len(self.layers) == 1:
            return self.layers[0].ravel()
        return np.concatenate([layer.ravel() for layer in self.layers])


class Rule(ABC):
    """A map from n client updates to one aggregate; subclasses are frozen dataclasses."""

    def __str__(self) -> str:
        """Return the rule as ``repr`` does, with names for functions: the same in every process."""
        return _ADDRESS.sub("", _with_names(repr(self), self))

    @property
    def byzantine(self) -> int:
        """The number f of Byzantine clients that the rule is set up to tolerate."""
        return 0

    @property
    def least_clients(self) -> int:
        """The smallest legal n."""
        return 1

    def trim(self, n: int) -> int:
        """Return how many of n client-reported numbers may lie at each end."""
        return self.byzantine

    def fitted(self, n: int, f: int) -> Self:
        """Return the rule as it applies to n clients of which f may be Byzantine."""
        return self

    def degraded(self) -> Self:
        """Return the rule without its requirement on n."""
        return self

    @abstractmethod
    def check(self, n: int) -> None:
        """Raise ValueError if n clients are too few for the rule, saying what would be legal."""

    @abstractmethod
    def choose(self, updates: ClientUpdates, server_round: int) -> Choice:
        """Return the weights of the clients; ``check`` has passed."""

    def __call__(self, updates: Array | ClientUpdates, *, server_round: int = 1) -> Aggregate:
        """Aggregate n updates.

        Parameters
        ----------
        updates : (n, d) array or ClientUpdates
            One row or model per client, in the clients' order; ties go to the smallest index.
        server_round : int
            The round t >= 1, for rules that depend on it.

        Raises
        ------
        ValueError
            If n, or a parameter for this n or round, is illegal; if too few updates are finite.
        """
        if not isinstance(updates, ClientUpdates):
            updates = ClientUpdates.from_matrix(updates)
        self.check(updates.n)
        choice = self.choose(updates, server_round)
        layers = weighted_mean(updates, choice.weights)
        scores = None if choice.ranking is None else choice.ranking.scores
        return Aggregate(layers, choice.weights, choice.selected, scores, choice.ranking)


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


def whole_number(name: str, value: object, minimum: int) -> int:
    """Return value as an int; raise ValueError unless it is a whole number >= minimum."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise ValueError(f"{name} must be a whole number >= {minimum}, got {value!r}")
    return number
