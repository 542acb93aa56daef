"""All clients of a federation in one process, answering a round together.

Honest clients of a round start from one model and differ in their mini-batches alone: they are
computed as one stacked model. Byzantine ones keep their own ways; what they report besides comes
from the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from flwr.common import NDArrays

from clients.byzantine import ByzantineClient
from clients.honest import HonestClient, in_dtypes_of
from clients.learning import replica
from clients.models import load_parameters
from clients.schedules import learning_rate
from clients.stacked import is_stackable, losses, losses_and_gradients, stack

EXAMPLES = 128
"""Examples that pass through a stacked model at once: more would leave the cache."""

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
        self._task = clients[0].task
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
        if not is_stackable(model):
            return [self.clients[i].answer(parameters, server_round) for i in asked]
        load_parameters(model, parameters)
        attacked = not self._settings.attack_is_over(server_round)
        # In one order whoever is asked first: a place in a batched product decides last bits.
        ordered = sorted(asked)
        forgers = [i for i in ordered if attacked and i in self._byzantine]
        workers = [i for i in ordered if not (attacked and i in self._byzantine)]
        found: dict[int, Proposal] = {}
        for group in self._groups(workers):
            found.update(zip(group, self._train(group, parameters, server_round), strict=True))
        for group in self._groups(forgers):
            found.update(zip(group, self._forge(group, parameters, server_round), strict=True))
        return [found[i] for i in asked]

    def _train(
        self, group: Sequence[int], parameters: NDArrays, server_round: int
    ) -> Iterator[Proposal]:
        """Make the local steps of some honest clients, from the parameters in the replica."""
        model = replica(self._settings)
        rate = learning_rate(self._settings, server_round)
        copies = stack(model, len(group))
        first: list[float] = []
        for drawn in zip(*(self.clients[i].draws(server_round) for i in group), strict=True):
            each, gradient = losses_and_gradients(model, copies, *self._batches(group, drawn))
            copies = {name: w.sub(gradient[name], alpha=rate) for name, w in copies.items()}
            first = first or each.tolist()
        layers = in_dtypes_of(parameters, [tensor.numpy() for tensor in copies.values()])
        return zip(map(list, zip(*layers, strict=True)), first, strict=True)

    def _forge(
        self, group: Sequence[int], parameters: NDArrays, server_round: int
    ) -> Iterator[Proposal]:
        """Let some Byzantine clients forge their models, and work out the losses they report."""
        model = replica(self._settings)
        drawn = [next(self.clients[i].draws(server_round)) for i in group]
        with torch.inference_mode():
            each = losses(model, stack(model, len(group)), *self._batches(group, drawn))
        forged = [self._byzantine[i].forge(parameters, server_round) for i in group]
        return zip(forged, each.tolist(), strict=True)

    def _batches(
        self, group: Sequence[int], drawn: Sequence[np.ndarray]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the examples (n, N, ...) and labels (n, N) that some clients drew."""
        places = self._starts[list(group), None] + np.stack(drawn)
        rows = torch.from_numpy(self._rows[places])
        return self._task.train_x[rows], self._task.train_y[rows]

    def _groups(self, clients: Sequence[int]) -> Iterator[Sequence[int]]:
        size = max(1, EXAMPLES // self._settings.batch_size)
        for start in range(0, len(clients), size):
            yield clients[start : start + size]
