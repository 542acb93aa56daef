"""All clients of a federation in one process, answering a round together.

Honest clients of a round start from one model and differ in their mini-batches alone: they are
computed as one stacked model. Byzantine ones keep their own ways; what they report besides comes
from the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from flwr.common import NDArrays
from numpy.typing import NDArray
from torch import nn

from clients.byzantine import ByzantineClient
from clients.honest import HonestClient, in_dtypes_of
from clients.learning import perceptron, stacked
from clients.learning.models import build_model
from clients.learning.schedules import learning_rate
from clients.learning.stacked import Stack, stack

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
        self._byzantine = {
            i: client for i, client in enumerate(clients) if isinstance(client, ByzantineClient)
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
        if self._learn is None:
            return [self.clients[i].answer(parameters, server_round) for i in asked]
        received = stack(self._model, parameters)
        attacked = not self._settings.attack_is_over(server_round)
        # In one order whoever is asked first: a place in a batched product decides last bits.
        forgers = sorted(i for i in asked if attacked and i in self._byzantine)
        workers = sorted(set(asked).difference(forgers))
        ordered = workers + forgers
        size = max(1, EXAMPLES // self._settings.batch_size)
        found: dict[int, Proposal] = {}
        for start in range(0, len(ordered), size):
            group = ordered[start : start + size]
            at_work = max(0, len(workers) - start)
            losses, learnt = self._train(received, group, group[:at_work], server_round)
            layers = in_dtypes_of(parameters, list(learnt.values()))
            trained = map(list, zip(*layers, strict=True))
            forged = (self._byzantine[i].forge(parameters, server_round) for i in group[at_work:])
            found.update(zip(group, zip(chain(trained, forged), losses, strict=True), strict=True))
        return [found[i] for i in asked]

    def _train(
        self, copies: Stack, group: Sequence[int], workers: Sequence[int], server_round: int
    ) -> tuple[list[float], Stack]:
        """Return the losses of a group on its first mini-batches, and what its workers learn.

        The workers come first in the group; the stack holds their parameters after their steps.
        """
        assert self._learn is not None
        rate = np.float32(learning_rate(self._settings, server_round))
        draws = [self.clients[i].draws(server_round) for i in group]
        first = [next(drawn) for drawn in draws]
        losses, gradient = self._learn(copies, *self._batches(group, first), len(workers))
        copies = _descended(copies, gradient, rate)
        for drawn in zip(*draws[: len(workers)], strict=True):
            _, gradient = self._learn(copies, *self._batches(workers, drawn), len(workers))
            copies = _descended(copies, gradient, rate)
        return losses.tolist(), copies

    def _batches(
        self, group: Sequence[int], drawn: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the examples (n, N, ...) and labels (n, N) that some clients drew."""
        rows = self._rows[self._starts[list(group), None] + np.stack(drawn)]
        return self._x[rows], self._y[rows]


def _descended(copies: Stack, gradient: Stack, rate: np.float32) -> Stack:
    with np.errstate(over="ignore", invalid="ignore"):  # in silence, as PyTorch
        return {name: copies[name] - rate * part for name, part in gradient.items()}
