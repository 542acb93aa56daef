"""All clients of a federation in one process, answering a round together.

Honest clients of a round start from one model and differ in their mini-batches alone: they are
computed as one stacked model. Byzantine ones keep their own ways; what they report besides comes
from the same pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from flwr.common import NDArrays
from numpy.typing import NDArray
from torch import nn

from clients import perceptron, stacked
from clients.byzantine import ByzantineClient
from clients.honest import HonestClient, in_dtypes_of
from clients.learning import replica
from clients.models import load_parameters
from clients.schedules import learning_rate
from clients.stacked import Stack, stack

EXAMPLES = 128
"""Examples that pass through a stacked model at once: more would leave the cache."""


class Kernel(Protocol):
    """A way to compute many copies of a model as one; see `clients.stacked`."""

    def fits(self, model: nn.Module) -> bool:
        """Say whether the model can be computed in this way."""

    def losses(
        self, model: nn.Module, copies: Stack, x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return each copy's mean loss on its own batch."""

    def losses_and_gradients(
        self, model: nn.Module, copies: Stack, x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Stack]:
        """Return each copy's mean loss on its own batch, and its gradient."""


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
        self._settings = clients[0].settings
        task = clients[0].task
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
        model = replica(self._settings)
        kernel = next((kernel for kernel in KERNELS if kernel.fits(model)), None)
        if kernel is None:
            return [self.clients[i].answer(parameters, server_round) for i in asked]
        load_parameters(model, parameters)
        attacked = not self._settings.attack_is_over(server_round)
        # In one order whoever is asked first: a place in a batched product decides last bits.
        ordered = sorted(asked)
        forgers = [i for i in ordered if attacked and i in self._byzantine]
        workers = [i for i in ordered if not (attacked and i in self._byzantine)]
        found: dict[int, Proposal] = {}
        for group in self._groups(workers):
            trained = self._train(kernel, model, group, server_round)
            found.update(zip(group, _proposals(parameters, *trained), strict=True))
        for group in self._groups(forgers):
            each = self._first_losses(kernel, model, group, server_round)
            for i, loss in zip(group, each, strict=True):
                found[i] = self._byzantine[i].forge(parameters, server_round), loss
        return [found[i] for i in asked]

    def _train(
        self, kernel: Kernel, model: nn.Module, group: Sequence[int], server_round: int
    ) -> tuple[Stack, list[float]]:
        """Return some clients' parameters after their local steps, and their first losses."""
        rate = np.float32(learning_rate(self._settings, server_round))
        copies = stack(model)
        first: list[float] = []
        for drawn in zip(*(self.clients[i].draws(server_round) for i in group), strict=True):
            each, gradient = kernel.losses_and_gradients(
                model, copies, *self._batches(group, drawn)
            )
            with np.errstate(over="ignore", invalid="ignore"):  # as PyTorch would, in silence
                copies = {name: w - rate * gradient[name] for name, w in copies.items()}
            first = first or each.tolist()
        return copies, first

    def _first_losses(
        self, kernel: Kernel, model: nn.Module, group: Sequence[int], server_round: int
    ) -> list[float]:
        """Return the losses of some clients on their first mini-batches."""
        drawn = [next(self.clients[i].draws(server_round)) for i in group]
        losses: list[float] = kernel.losses(
            model, stack(model), *self._batches(group, drawn)
        ).tolist()
        return losses

    def _batches(
        self, group: Sequence[int], drawn: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the examples (n, N, ...) and labels (n, N) that some clients drew."""
        rows = self._rows[self._starts[list(group), None] + np.stack(drawn)]
        return self._x[rows], self._y[rows]

    def _groups(self, clients: Sequence[int]) -> Iterator[Sequence[int]]:
        size = max(1, EXAMPLES // self._settings.batch_size)
        for start in range(0, len(clients), size):
            yield clients[start : start + size]


def _proposals(parameters: NDArrays, copies: Stack, losses: Iterable[float]) -> Iterator[Proposal]:
    """Part a stack into the arrays of each copy, in the dtypes of the parameters."""
    layers = in_dtypes_of(parameters, list(copies.values()))
    return zip(map(list, zip(*layers, strict=True)), losses, strict=True)
