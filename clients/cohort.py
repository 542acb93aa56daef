"""All clients of a federation in one process, answering a round together.

Honest clients of a round start from one model and differ in their mini-batches alone: they are
computed as one stacked model, those among them whose answers an adversary knows for it too. What
Byzantine clients report besides comes from the same pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from flwr.common import NDArrays
from numpy.typing import NDArray
from torch import nn

from clients.adversary import Adversary
from clients.batches import Batches
from clients.collusion import Rows, Seen, floats
from clients.honest import HonestClient, in_dtypes_of
from clients.learning import perceptron, stacked
from clients.learning.descent import as_rows, directed, from_rows
from clients.learning.models import build_model
from clients.learning.schedules import learning_rate
from clients.learning.stacked import Stack, stack
from clients.streams import Purpose, Streams

EXAMPLES = 128
"""Examples that pass through a stacked model at once: more would leave the cache."""


class Kernel(Protocol):
    """A way to compute many copies of a model as one; see `clients.learning.stacked`."""

    def fits(self, model: nn.Module) -> bool:
        """Say whether the model can be computed in this way."""

    def losses_and_gradients(
        self,
        model: nn.Module,
        copies: Stack,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        trained: int,
    ) -> tuple[NDArray[np.float32], Stack]:
        """Return each copy's mean loss on its own batch, and the gradient of the first copies."""


KERNELS: tuple[Kernel, ...] = (perceptron, stacked)
"""The first one that fits a model computes it."""

Proposal = tuple[NDArrays, float]
"""What a client proposes: its model's arrays, and the loss it reports."""


class Cohort:
    """The clients of one federation.

    Parameters
    ----------
    clients : sequence of HonestClient
        Of the same settings and task, Byzantine ones among them.
    """

    def __init__(self, clients: Sequence[HonestClient]) -> None:
        self.clients = tuple(clients)
        self._adversaries = {
            i: client for i, client in enumerate(clients) if isinstance(client, Adversary)
        }
        settings, task = clients[0].settings, clients[0].task
        self._settings = settings
        self._model = build_model(settings.task, settings.model, settings.seed)
        self._learn = next(
            (partial(k.losses_and_gradients, self._model) for k in KERNELS if k.fits(self._model)),
            None,
        )
        self._x, self._y = task.train_x.numpy(), task.train_y.numpy()
        sizes = [len(client.shard) for client in clients]
        self._rows = torch.cat([client.shard for client in clients]).numpy()
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._draws = Batches(self.clients)
        self._attacks = Streams(settings.seed, Purpose.ATTACK, range(settings.num_clients + 1))
        self.factor: float | None = None
        """What the attack chose in the last round: the first attacker's, None without one."""

    def propose(
        self, asked: Sequence[int], parameters: NDArrays, server_round: int
    ) -> list[Proposal]:
        """Return what each client that is asked answers to a round.

        Parameters
        ----------
        asked : sequence of int
            Places in ``clients``.
        parameters : list[np.ndarray]
            The global model, in state-dict order; left as it is.
        server_round : int
            The round, counted from 1.

        Returns
        -------
        list of (arrays, loss), in the order of ``asked``
            Those of ``client.answer`` up to the rounding of float32.
        """
        forgers = {
            i: client
            for i in asked
            if (client := self._adversaries.get(i)) and client.is_at_work(server_round)
        }
        found = self._answers(asked, forgers, parameters, server_round)
        chosen = (client.factor for client in forgers.values())
        self.factor = next((factor for factor in chosen if factor is not None), None)
        return found

    def _answers(
        self,
        asked: Sequence[int],
        forgers: Mapping[int, Adversary],
        parameters: NDArrays,
        server_round: int,
    ) -> list[Proposal]:
        if self._learn is None or self._settings.local_epochs:  # not in batches of one size
            return [self.clients[i].propose(parameters, server_round) for i in asked]
        known = {i for client in forgers.values() for i in client.trained}
        honest = set(asked).difference(forgers)
        # In one order whoever is asked first: a place in a batched product decides last bits.
        workers = sorted(honest | known)
        # An attacker reports the loss of an honest client, also where it trains on other data.
        poisoned = {i for i, client in forgers.items() if client.attack.changes_data}
        watchers = sorted((set(forgers) - known) | (poisoned & known))
        learnt = self._round(parameters, server_round, workers, watchers, poisoned)
        for i in sorted(honest):
            self._remember(i, learnt)
        seen = self._seen(learnt, parameters, known, server_round) if forgers else None
        found = {i: (learnt.model_of(i), learnt.losses[i]) for i in honest}
        for i, client in forgers.items():
            self._remember(i, learnt)
            found[i] = (client.forge(parameters, server_round, seen), learnt.losses[i])
        return [found[i] for i in asked]

    def _seen(
        self, learnt: _Learnt, parameters: NDArrays, known: Collection[int], server_round: int
    ) -> Seen:
        w = floats(parameters)
        w.setflags(write=False)  # all attackers get it

        def stream(place: int) -> np.random.Generator:
            return np.random.Generator(*self._attacks.bits([place], server_round))

        return Seen(w, learnt.updates(w, known), stream)

    def _round(
        self,
        parameters: NDArrays,
        server_round: int,
        workers: Sequence[int],
        watchers: Sequence[int],
        poisoned: Collection[int],
    ) -> _Learnt:
        """Train the workers, and find the loss of the watchers, in groups that fit the cache."""
        received = stack(self._model, parameters)
        size = max(1, EXAMPLES // self._settings.batch_size)
        learnt = _Learnt([], {}, {}, {})
        for start in range(0, len(workers) + len(watchers), size):
            group = [*workers, *watchers][start : start + size]
            at_work = group[: max(0, len(workers) - start)]
            losses, copies, velocity = self._train(received, group, at_work, server_round, poisoned)
            learnt.losses.update(zip(group, losses, strict=True))
            if at_work:
                layers = in_dtypes_of(parameters, list(copies.values()))
                places = {i: (len(learnt.groups), k) for k, i in enumerate(at_work)}
                learnt.places.update(places)
                learnt.groups.append(layers)
                if self._settings.keeps_momentum:
                    learnt.velocities.update(zip(at_work, as_rows(velocity), strict=True))
        return learnt

    def _train(
        self,
        copies: Stack,
        group: Sequence[int],
        workers: Sequence[int],
        server_round: int,
        poisoned: Collection[int],
    ) -> tuple[list[float], Stack, Stack]:
        """Return the losses of a group on its first mini-batches, and what its workers learn.

        The workers come first in the group; the stacks hold their parameters after their steps,
        and their momenta.
        """
        assert self._learn is not None
        rate = np.float32(learning_rate(self._settings, server_round))
        poisoned = [k for k, i in enumerate(workers) if i in poisoned]
        velocity = self._velocities(workers, copies)
        first, *later = self._draws.drawn(group, server_round)
        batches = self._batches(group, first, poisoned)
        losses, gradient = self._learn(copies, *batches, len(workers))
        copies, velocity = self._descended(copies, gradient, rate, velocity)
        for drawn in later if workers else ():
            batches = self._batches(workers, drawn[: len(workers)], poisoned)
            _, gradient = self._learn(copies, *batches, len(workers))
            copies, velocity = self._descended(copies, gradient, rate, velocity)
        return losses.tolist(), copies, velocity

    def _descended(
        self, copies: Stack, gradient: Stack, rate: np.float32, velocity: Stack
    ) -> tuple[Stack, Stack]:
        """Return the copies after a step, and their momenta."""
        if not self._settings.is_plain:
            gradient, velocity = directed(self._settings, gradient, copies, velocity)
        with np.errstate(over="ignore", invalid="ignore"):  # in silence, as PyTorch
            moved = {name: copies[name] - rate * part for name, part in gradient.items()}
        return moved, velocity

    def _velocities(self, workers: Sequence[int], like: Stack) -> Stack:
        """Return the momenta of some clients; empty where there are none."""
        if not self._settings.momentum:
            return {}
        rows = np.zeros((len(workers), sum(part[0].size for part in like.values())), np.float32)
        for row, client in zip(rows, (self.clients[i] for i in workers), strict=True):
            row[:] = client.memory.get(client.velocity_key, 0.0)
        return from_rows(rows, like)

    def _remember(self, i: int, learnt: _Learnt) -> None:
        if i in learnt.velocities:
            self.clients[i].memory[self.clients[i].velocity_key] = learnt.velocities[i]

    def _batches(
        self,
        group: Sequence[int],
        drawn: NDArray[np.int64],
        poisoned: Sequence[int],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the examples (n, N, ...) and labels (n, N) that some clients drew.

        Those at the places ``poisoned`` are what the attackers there make of theirs.
        """
        rows = self._rows[self._starts[list(group), None] + drawn]
        x, y = self._x[rows], self._y[rows]
        for k in poisoned:
            x[k], y[k] = self._adversaries[group[k]].poisoned(x[k], y[k])
        return x, y


@dataclass(frozen=True)
class _Learnt:
    """What came of a round of training, by place in the cohort."""

    groups: list[NDArrays]  # layers (k, *shape) of those that were trained together
    places: dict[int, tuple[int, int]]  # in which group, and where in it
    losses: dict[int, float]
    velocities: dict[int, NDArray[np.float32]]

    def model_of(self, i: int) -> NDArrays:
        """Return a client's model."""
        group, k = self.places[i]
        return [layer[k] for layer in self.groups[group]]

    def updates(self, w: Rows, known: Collection[int]) -> dict[int, Rows]:
        """Return the updates (d,) of some clients from the global model w (d,)."""
        found = {}
        for number, layers in enumerate(self.groups):
            wanted = {
                i: k for i, (group, k) in self.places.items() if group == number and i in known
            }
            if wanted:
                flat = [layer.reshape(len(layer), -1) for layer in layers]
                moved = np.concatenate(flat, axis=1).astype(np.float64) - w
                found.update({i: moved[k] for i, k in wanted.items()})
        return found
