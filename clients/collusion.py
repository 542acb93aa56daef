"""What a team of attackers makes of a round: whom they see, and the models that they come to.

Each attacker works it out for itself, and all come to the same: it is a function of the settings,
the attack, what they remember, the global model and the round.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from flwr.common import NDArrays
from numpy.typing import NDArray

from clients.honest import HonestClient
from clients.learning.models import load_parameters
from clients.learning.schedules import learning_rate
from clients.learning.steps import full_gradient, replica
from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks import Task
from flwr_krum.attacks import Attack, Scene

Rows = NDArray[np.float64]

Known = Mapping[int, Rows]
"""Updates (d,) by partition."""


class Seen(NamedTuple):
    """What is worked out for all teams of a round.

    The global model (d,), honest updates, and the attackers' stream at each place.
    """

    model: Rows
    updates: Known
    stream: Callable[[int], np.random.Generator]


NOTE = "attack/"
"""What stands before the name of an attack's note in a client's memory."""


@dataclass(frozen=True)
class Team:
    """Who attacks together, and whose honest updates they see.

    Attributes
    ----------
    members : tuple of int
        Partitions of the attackers that share their rows; one alone where each acts for itself.
    place : int
        This client's among them; in all else, members of a team are equal.
    shown : tuple of int
        Partitions whose updates are the scene's ``honest``.
    trained : tuple of int
        Those, and the members where the attack asks what they would honestly send.
    """

    members: tuple[int, ...]
    place: int = field(compare=False)
    shown: tuple[int, ...]
    trained: tuple[int, ...]

    @classmethod
    def of(cls, settings: Settings, partition_id: int, attack: Attack) -> Team:
        """Return the team of an attacker, by what its attack or the settings let it know."""
        n = settings.num_clients
        knowledge = attack.knowledge
        if settings.knowledge != "default" and knowledge != "none":
            knowledge = settings.knowledge  # type: ignore[assignment]
        colluders = tuple(range(n - settings.f, n))
        # A red-team node in a federation that has none of its kind attacks alone.
        if partition_id not in colluders:
            colluders = (partition_id,)
        members = (partition_id,) if knowledge in ("none", "own") else colluders
        others = tuple(i for i in range(n) if i not in colluders)
        shown = {"none": (), "own": members, "colluding": members, "all": others}[knowledge]
        own = members if "own" in attack.needs else ()
        trained = tuple(sorted({*shown, *own}))
        return cls(members, members.index(partition_id), shown, trained)


class _Trainee(HonestClient):
    """An attacker as it trains, honestly, on what its attack makes of its data."""

    def __init__(self, settings: Settings, task: Task, partition_id: int, attack: Attack) -> None:
        super().__init__(settings, task, partition_id)
        self._attack = attack

    def batches(self, server_round: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in super().batches(server_round):
            images, labels = self._attack.poisoned(x.numpy(), y.numpy(), self.task.classes)
            yield torch.from_numpy(images), torch.from_numpy(labels)


@dataclass(frozen=True)
class Point:
    """Where a team stands; at equal points it sends equal rows."""

    team: Team
    settings: Settings
    task: Task
    attack: Attack
    server_round: int
    content: bytes  # a digest of the parameters
    noted: bytes  # and of the memory
    parameters: NDArrays = field(compare=False, repr=False)
    memory: Mapping[str, np.ndarray] = field(compare=False, repr=False)
    seen: Seen | None = field(compare=False, repr=False)

    @classmethod
    def of(
        cls,
        team: Team,
        settings: Settings,
        task: Task,
        attack: Attack,
        memory: Mapping[str, np.ndarray],
        server_round: int,
        parameters: NDArrays,
        seen: Seen | None = None,
    ) -> Point:
        """Say where a team stands, by digests where its members will ask for the same."""
        shared = len(team.members) > 1
        return cls(
            team,
            settings,
            task,
            attack,
            server_round,
            _digest(parameters) if shared else b"",
            _digest([memory[name] for name in sorted(memory)]) if shared else b"",
            parameters,
            memory,
            seen,
        )


@dataclass(frozen=True)
class Played:
    """What a team makes of a round: its models (f, d), and what each member is to remember."""

    models: Rows
    notes: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Learnt:
    """What the clients of some shards answer: their updates, and their momenta by name."""

    updates: Known
    velocities: Mapping[str, np.ndarray]


_playing = threading.Lock()


def played(point: Point) -> Played:
    """Return what a team makes of a round, worked out once for all its members."""
    if len(point.team.members) == 1:
        return _play(point)
    # One at a time: Flower's older engine calls the clients of a round from several threads, and
    # those that come second are to find the rows, not to compute them again.
    with _playing:
        return _once(point)


@lru_cache(maxsize=1)  # the f clients of a round ask for the same rows; rounds come in order
def _once(point: Point) -> Played:
    return _play(point)


def _play(point: Point) -> Played:
    team, settings, attack = point.team, point.settings, point.attack
    members, shown = team.members, team.shown
    # An attacker alone draws for itself, a team from a stream that no client's place has.
    who = members[0] if len(members) == 1 else settings.num_clients
    if point.seen is None:
        w, learnt = floats(point.parameters), learnt_by(point, team.trained)
        rng = stream(settings.seed, Purpose.ATTACK, who, point.server_round)
    else:
        w, learnt = point.seen.model, Learnt(point.seen.updates, {})
        rng = point.seen.stream(who)
    own = np.stack([learnt.updates[i] for i in members]) if "own" in attack.needs else None
    honest = np.stack([learnt.updates[i] for i in shown]) if shown else np.zeros((1, len(w)))
    notes = {
        name.removeprefix(NOTE): array
        for name, array in point.memory.items()
        if name.startswith(NOTE)
    }
    scene = Scene(
        honest,
        len(members),
        rng,
        server_round=point.server_round,
        n=settings.num_clients,
        own=own,
        model=w,
        gradient=_gradient(point) if "gradient" in attack.needs else None,
        rate=learning_rate(settings, point.server_round),
        rule=settings.build_rule() if "rule" in attack.needs else None,
        memory=notes,
    )
    with np.errstate(over="ignore", invalid="ignore"):
        models = w + attack.on(scene)
    noted = {f"{NOTE}{name}": array for name, array in notes.items()}
    return Played(models, {**learnt.velocities, **noted})


def learnt_by(point: Point, partitions: Sequence[int]) -> Learnt:
    """Return what the clients of some shards answer, and their momenta afterwards."""
    attack = point.attack
    poisons = attack.changes_data and attack.is_at_work(point.server_round)
    w = floats(point.parameters)
    updates, velocities = {}, {}
    for i in partitions:
        client = (
            _Trainee(point.settings, point.task, i, attack)
            if poisons and i in point.team.members
            else HonestClient(point.settings, point.task, i)
        )
        before = point.memory.get(client.velocity_key)
        learnt = client.learn(point.parameters, point.server_round, before)
        updates[i] = floats(learnt.arrays) - w
        if learnt.velocity is not None:
            velocities[client.velocity_key] = learnt.velocity
    return Learnt(updates, velocities)


@dataclass(frozen=True)
class _Place:
    """Where a gradient is asked for; equal places have equal gradients."""

    settings: Settings
    task: Task
    server_round: int
    examples: int
    content: bytes
    parameters: NDArrays = field(compare=False, repr=False)


def _gradient(point: Point) -> Rows:
    examples = point.attack.gradient_examples
    content = point.content or _digest(point.parameters)
    place = _Place(
        point.settings, point.task, point.server_round, examples, content, point.parameters
    )
    with _estimating:
        return _estimate(place)


_estimating = threading.Lock()


@lru_cache(maxsize=4)
def _estimate(place: _Place) -> Rows:
    """Return the gradient over all training data, or over fresh examples of them; 0 for buffers."""
    settings, task = place.settings, place.task
    model = replica(settings)
    load_parameters(model, place.parameters)
    x, y = task.train_x, task.train_y
    if place.examples:
        rng = stream(settings.seed, Purpose.OMNISCIENT, place.server_round)
        rows = torch.from_numpy(rng.integers(len(y), size=place.examples))
        x, y = x[rows], y[rows]
    names = (name for name, _ in model.named_parameters())
    parts = dict(zip(names, full_gradient(model, x, y), strict=True))
    return floats(
        [
            parts[name].numpy() if name in parts else np.zeros_like(array)
            for name, array in zip(model.state_dict(), place.parameters, strict=True)
        ]
    )


def floats(arrays: NDArrays) -> Rows:
    """Return the numbers of a model that an attack moves, as (d,): those of its float arrays."""
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [a.astype(np.float64).reshape(-1) for a in arrays if a.dtype.kind == "f"]
    return np.concatenate(parts)


def _digest(arrays: NDArrays) -> bytes:
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(str((array.dtype.str, array.shape)).encode())
        whole.update(array.tobytes())
    return whole.digest()
