"""What every attack is: what an adversary sees of a round in, the f updates that it sends out.

An attack is a small frozen value that is called. It works on updates ``u = x - w``: of what a
client sends, less the global model. It says what it must see beside the honest updates (``needs``)
and whose those are (``knowledge``); a `Scene` without it is refused by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from flwr.app import RecordDict

from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import WeightedWindow, Window

Knowledge: TypeAlias = Literal["none", "own", "colluding", "all"]
"""Whose honest updates an adversary knows: nobody's, its own, the f attackers', or everybody's.

With the first two each attacker acts for itself, as if f were 1; else all f decide on f rows.
"""

KNOWLEDGE: tuple[Knowledge, ...] = get_args(Knowledge)

Need: TypeAlias = Literal["n", "own", "model", "gradient", "rule", "memory"]
"""What of a `Scene` an attack may ask for, beside honest updates, f and a generator."""


FACTOR = "factor"
"""Under which name a memory has the factor that an attack chose last."""


class Chosen(Protocol):
    """What a rule decides, as `flwr_krum.rules.Choice` has it."""

    @property
    def mix(self) -> Float64:
        """Rows mixed from the clients (k, n)."""

    @property
    def window(self) -> Window | WeightedWindow | None:
        """Which of the k sorted values are averaged, per coordinate."""


class InForce(Protocol):
    """The rule that the server uses, as `flwr_krum.rules.Rule` has it."""

    @property
    def server_rows(self) -> tuple[str, ...]:
        """Names of the rows that the server adds, which no client sees."""

    def liars(self, n: int) -> int:
        """Return how many of n clients the rule is to bear."""

    def fitted(self, n: int, f: int) -> InForce:
        """Return the rule as it applies to n clients of which f may be Byzantine."""

    def seeded(self, seed: int) -> InForce:
        """Return the rule with a seed for what it draws, where it draws and has none."""

    def check(self, n: int) -> None:
        """Raise ValueError if n clients are too few for the rule."""

    def choose(self, geometry: Geometry, server_round: int) -> Chosen:
        """Return what is made of the rows."""


@dataclass(frozen=True)
class Scene:
    """What an adversary sees of a round; None where it does not.

    Attributes
    ----------
    honest : (h, d)
        Updates of the honest clients that it knows.
    f : int
        Rows to send.
    rng : numpy.random.Generator
    server_round : int
        The round, counted from 1.
    n : int
        Clients that the rule sees, the f attackers among them.
    own : (f, d)
        What the attackers would send if they were honest; from their changed data, where the
        attack changes data.
    model : (d,)
        The global model w.
    gradient : (d,)
        The gradient of the loss over all training data.
    rate : float
        The round's learning rate: a vector V of the papers, which stands for a gradient, is the
        update ``-rate V``.
    rule : InForce
        The server's.
    memory : mutable mapping
        What the attack noted in the rounds before, by name; empty at first.
    """

    honest: Float64
    f: int
    rng: np.random.Generator
    server_round: int = 1
    n: int | None = None
    own: Float64 | None = None
    model: Float64 | None = None
    gradient: Float64 | None = None
    rate: float = 1.0
    rule: InForce | None = None
    memory: MutableMapping[str, Array] | None = None

    def required(self, name: Need) -> Any:
        """Return what is called so.

        Raises
        ------
        ValueError
            If the scene does not have it.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"needs {MEANINGS[name]} ({name}=), which the adversary does not see")
        return value

    def note_factor(self, factor: float) -> None:
        """Note the factor that an attack chose in this round, for whoever follows its rounds."""
        if self.memory is not None:
            self.memory[FACTOR] = np.array(factor)

    @property
    def mean(self) -> Float64:
        """The mean (d,) of the honest updates."""
        mean: Float64 = self.honest.mean(axis=0)
        return mean

    def deviation(self, ddof: int = 1) -> Float64:
        """Return the standard deviation (d,) of the honest updates; 0 of a single one."""
        if len(self.honest) <= ddof:
            return np.zeros(self.honest.shape[1])
        deviation: Float64 = self.honest.std(axis=0, ddof=ddof)
        return deviation


MEANINGS: dict[Need, str] = {
    "n": "the number of clients",
    "own": "the attackers' own honest updates",
    "model": "the global model",
    "gradient": "the gradient over all training data",
    "rule": "the rule in force",
    "memory": "the rounds before",
}
"""What an attack may need, in words."""


@dataclass(frozen=True)
class AttackFacts:
    """What an attack says of itself; docs/attacks.md is made from it.

    Attributes
    ----------
    source : str
        The paper that has it.
    formula : str
        Of the rows that are sent, as updates.
    breaks, resists : str
        Which rules it is known to break, and which are known to stand it.
    differs : str
        What other implementations do otherwise.
    """

    source: str
    formula: str
    breaks: str
    resists: str
    differs: str = ""


@dataclass(frozen=True)
class Attack(ABC):
    """An attack; subclasses are frozen dataclasses whose fields are its parameters."""

    facts: ClassVar[AttackFacts]
    """What an attack that has a name says of itself."""

    knowledge: ClassVar[Knowledge] = "all"
    """Whose honest updates it is defined on."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it must see beside them."""
        return frozenset()

    @property
    def gradient_examples(self) -> int:
        """How many fresh training examples the scene's gradient is that of; 0 is all."""
        return 0

    @property
    def changes_data(self) -> bool:
        """Whether the attackers train on other data than their shard."""
        return False

    def is_at_work(self, server_round: int) -> bool:
        """Say whether it attacks in a round, counted from 1.

        In any other round its clients are honest in all they do: they neither change their data
        nor spoil a reply.
        """
        return True

    def poisoned(self, x: Array, y: Array, classes: int) -> tuple[Array, Array]:
        """Return the examples (N, ...) and labels (N,) of a batch that an attacker trains on."""
        return x, y

    def spoiled(self, content: RecordDict) -> RecordDict:
        """Return the content of the reply that holds the row; an attack on bytes changes it."""
        return content

    @abstractmethod
    def rows(self, scene: Scene) -> Float64:
        """Return the updates (f, d) to send, or one (d,) that all f send."""

    def __call__(
        self, honest: Array, f: int, rng: np.random.Generator | None = None, **beyond: Any
    ) -> Float64:
        """Return the updates (f, d) that the f attackers send.

        Parameters
        ----------
        honest : (h, d)
            Updates of the honest clients that the adversary knows.
        f : int
            Attackers; without one there is no row.
        rng : numpy.random.Generator, optional
            For attacks that draw; by default a generator of seed 0.
        **beyond
            What else it sees: fields of `Scene`.

        Raises
        ------
        ValueError
            If there is no update, or something is missing that the attack needs.
        """
        updates = np.asarray(honest, np.float64)
        if updates.ndim != 2 or not len(updates):
            raise ValueError(f"expected honest updates (h, d), h >= 1, got shape {updates.shape}")
        if f == 0:
            return np.empty((0, updates.shape[1]))
        draws = np.random.default_rng(0) if rng is None else rng
        return self.on(Scene(updates, f, draws, **beyond))

    def on(self, scene: Scene) -> Float64:
        """Return the updates (f, d) that the attackers send in a scene.

        Where the attack is not at work, they are the attackers' own honest ones.

        Raises
        ------
        ValueError
            If something is missing that the attack needs.
        """
        is_at_work = self.is_at_work(scene.server_round)
        needs: frozenset[Need] = self.needs if is_at_work else frozenset({"own"})
        try:
            for name in sorted(needs):
                scene.required(name)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__} {error}") from None
        # What becomes too large for float64 is sent as Inf: refusing it is the server's part.
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.asarray(self.rows(scene) if is_at_work else scene.own, np.float64)
        wanted = (scene.f, scene.honest.shape[1])
        if rows.shape not in (wanted, wanted[1:]):
            raise ValueError(
                f"{type(self).__name__} sends rows of shape {rows.shape}, expected {wanted} "
                f"or {wanted[1:]}"
            )
        return rows.copy() if rows.ndim == 2 else np.tile(rows, (scene.f, 1))


@runtime_checkable
class Trigger(Protocol):
    """What an attack has that makes the model take marked examples for another class."""

    def triggered(self, x: Array) -> Array:
        """Return examples (N, ...) with the mark."""

    def success(self, predicted: Array, y: Array) -> float:
        """Return the share of marked examples, of true labels y (N,), that are mistaken so."""


@dataclass(frozen=True)
class Wrapper(Attack):
    """An attack that decides when another one is at work; written before it, with a ``|``.

    What it knows, does to data and does to replies is the other one's.
    """

    attack: Attack = field(kw_only=True)

    @property
    def knowledge(self) -> Knowledge:  # type: ignore[override]
        """What the other one knows."""
        return self.attack.knowledge

    @property
    def needs(self) -> frozenset[Need]:
        """What the other one needs."""
        return self.attack.needs

    @property
    def gradient_examples(self) -> int:
        """Those of the other one."""
        return self.attack.gradient_examples

    @property
    def changes_data(self) -> bool:
        """Whether the other one does."""
        return self.attack.changes_data

    @abstractmethod
    def is_at_work(self, server_round: int) -> bool:
        """Say whether the other one attacks in a round."""

    def poisoned(self, x: Array, y: Array, classes: int) -> tuple[Array, Array]:
        """Return the other one's batch."""
        return self.attack.poisoned(x, y, classes)

    def spoiled(self, content: RecordDict) -> RecordDict:
        """Return the other one's reply."""
        return self.attack.spoiled(content)

    def rows(self, scene: Scene) -> Float64:
        """Return the other one's rows."""
        return self.attack.rows(scene)


def trigger_of(attack: Attack | None) -> Trigger | None:
    """Return what an attack marks examples with, if it does, also behind wrappers."""
    while isinstance(attack, Wrapper):
        attack = attack.attack
    return attack if isinstance(attack, Trigger) else None
