"""The honest client: mini-batch gradient descent on its own shard of the training data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from flwr.app import RecordDict
from flwr.client import NumPyClient
from flwr.common import NDArrays, Scalar
from numpy.typing import NDArray

from clients.learning.descent import as_rows, directed, from_rows
from clients.learning.models import load_parameters, parameters_of
from clients.learning.schedules import learning_rate
from clients.learning.stacked import Stack
from clients.learning.steps import evaluate, loss, loss_and_gradient, own_draws, replica
from clients.memory import Memory
from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks import Task, shard_of

ROUND_KEY = "server-round"


class Learnt(NamedTuple):
    """What a round of training makes: the model, its first loss, and the momentum (d,)."""

    arrays: NDArrays
    loss: float
    velocity: NDArray[np.float32] | None


class HonestClient(NumPyClient):
    """A correct worker of the paper, and the base of the Byzantine ones.

    Its answer is a pure function of (settings, task, partition, memory, parameters, round): the
    same bytes in every process, on every engine, in any order of calls. What it keeps between
    rounds, a momentum where the settings have one, is in its memory and nowhere else.

    A Byzantine client (`clients.adversary`) sends another model, or breaks its reply, and nothing
    else: in every other respect, also in the metrics that it reports, it cannot be told from an
    honest one.

    Parameters
    ----------
    settings : Settings
        The learning problem.
    task : Task
        The data that `settings` asks for.
    partition_id : int
        Which of the shards is this client's own; see `clients.tasks.shard_of`.
    memory : mutable mapping of arrays, optional
        What the client noted in the rounds before; by default it begins anew.

    Raises
    ------
    ValueError
        If there is no such partition, or no split that gives every client a training row.
    """

    def __init__(
        self, settings: Settings, task: Task, partition_id: int, memory: Memory | None = None
    ) -> None:
        if not 0 <= partition_id < settings.num_clients:
            raise ValueError(
                f"partition_id is {partition_id}, expected 0 to {settings.num_clients - 1} "
                f"(num-clients is {settings.num_clients})"
            )
        self.settings = settings
        self.task = task
        self.partition_id = partition_id
        self.memory: Memory = {} if memory is None else memory
        self.shard = torch.from_numpy(shard_of(settings, task, partition_id))
        self.num_examples = len(self.shard)

    def propose(self, parameters: NDArrays, server_round: int) -> tuple[NDArrays, float]:
        """Return the model after the round's local steps ``w <- w - rate * gradient(batch)``.

        The loss comes along because the first step has it for nothing: a pass of its own would
        cost a third of a small model's round.

        Parameters
        ----------
        parameters : list[np.ndarray]
            The global model, in state-dict order; left as it is.
        server_round : int
            The round, counted from 1; fixes the mini-batches and the rate.

        Returns
        -------
        tuple[list[np.ndarray], float]
            As many arrays, of the same shapes and dtypes; and the loss of the received model on
            the round's first mini-batch.
        """
        learnt = self.learn(parameters, server_round, self.memory.get(self.velocity_key))
        if learnt.velocity is not None:
            self.memory[self.velocity_key] = learnt.velocity
        return learnt.arrays, learnt.loss

    @property
    def velocity_key(self) -> str:
        """Under which a memory has this shard's momentum."""
        return f"velocity/{self.partition_id}"

    def learn(
        self, parameters: NDArrays, server_round: int, velocity: NDArray[np.float32] | None
    ) -> Learnt:
        """Return what `propose` returns, and the momentum (d,) afterwards, where there is one."""
        settings = self.settings
        model = replica(settings)
        load_parameters(model, parameters)
        rate = learning_rate(settings, server_round)
        like: Stack = {}
        if not settings.is_plain:
            like = {name: p.detach().numpy()[None] for name, p in model.named_parameters()}
        moving = _velocity_of(settings, like, velocity)
        losses = []
        with own_draws(settings, self.partition_id, server_round):
            for x, y in self.batches(server_round):
                value, parts = loss_and_gradient(model, x, y)
                losses.append(value.item())
                if not settings.is_plain:
                    gradient = {n: part.numpy()[None] for n, part in zip(like, parts, strict=True)}
                    direction, moving = directed(settings, gradient, like, moving)
                    parts = tuple(torch.from_numpy(part[0]) for part in direction.values())
                with torch.no_grad():
                    for parameter, part in zip(model.parameters(), parts, strict=True):
                        parameter.sub_(part, alpha=rate)
        arrays = in_dtypes_of(parameters, list(parameters_of(model).values()))
        return Learnt(arrays, losses[0], as_rows(moving)[0] if settings.keeps_momentum else None)

    def first_loss(self, parameters: NDArrays, server_round: int) -> float:
        """Return the loss that an honest client reports: on the round's first mini-batch."""
        model = replica(self.settings)
        load_parameters(model, parameters)
        draws = own_draws(self.settings, self.partition_id, server_round)
        with torch.inference_mode(), draws:
            return loss(model, *next(self.batches(server_round))).item()

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """Answer a round of training.

        Parameters
        ----------
        parameters : list[np.ndarray]
            The global model, in state-dict order; left as it is.
        config : dict[str, Scalar]
            Holds the round under "server-round".

        Returns
        -------
        tuple[list[np.ndarray], int, dict[str, Scalar]]
            What `propose` returns, with the size of the shard and the loss as {"loss": ...}.

        Raises
        ------
        ValueError
            If the config has no legal round, or the parameters do not fit the model.
        """
        server_round = round_of(config)
        proposal, first_loss = self.propose(parameters, server_round)
        return proposal, self.num_examples, {"loss": first_loss}

    def spoiled(self, content: RecordDict, server_round: int) -> RecordDict:
        """Return the reply to a training message as it is; a Byzantine client may break it."""
        return content

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, int, dict[str, Scalar]]:
        """Return the loss of a model on the own shard, the shard's size and {"accuracy": ...}."""
        model = replica(self.settings)
        load_parameters(model, parameters)
        x, y = self.task.train_x[self.shard], self.task.train_y[self.shard]
        mean_loss, accuracy = evaluate(model, x, y)
        return mean_loss, self.num_examples, {"accuracy": accuracy}

    def draws(self, server_round: int) -> Iterator[np.ndarray]:
        """Draw each of the round's mini-batches as places in the own shard.

        With replacement; whole passes over the shard (``local_epochs``) go without, each in an
        order of its own.
        """
        rng = stream(self.settings.seed, Purpose.BATCH, self.partition_id, server_round)
        size = self.settings.batch_size
        for _ in range(self.settings.local_epochs):
            order = rng.permutation(self.num_examples)
            yield from np.split(order, range(size, self.num_examples, size))
        if not self.settings.local_epochs:
            for _ in range(self.settings.local_steps):
                yield rng.integers(self.num_examples, size=size)

    def batches(self, server_round: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the examples and labels of each of the round's mini-batches."""
        for drawn in self.draws(server_round):
            rows = self.shard[torch.from_numpy(drawn)]
            yield self.task.train_x[rows], self.task.train_y[rows]


def _velocity_of(settings: Settings, like: Stack, velocity: NDArray[np.float32] | None) -> Stack:
    """Return a momentum as a stack of one copy; zeros in the first round, empty without one."""
    if not settings.momentum:
        return {}
    if velocity is None:
        return {name: np.zeros_like(part) for name, part in like.items()}
    return from_rows(velocity[None], like)


def in_dtypes_of(parameters: NDArrays, arrays: NDArrays) -> NDArrays:
    """Convert arrays to the dtypes of the parameters that they answer to, without a warning."""
    # What an attack makes too large for the dtype is sent as Inf: refusing it is the server's part.
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            np.asarray(array, dtype=parameter.dtype)
            for parameter, array in zip(parameters, arrays, strict=True)
        ]


def round_of(config: dict[str, Scalar]) -> int:
    """Return the round that a fit config names.

    Raises
    ------
    ValueError
        If it names none.
    """
    server_round = config.get(ROUND_KEY)
    if not isinstance(server_round, int) or server_round < 1:
        raise ValueError(
            f"the fit config's '{ROUND_KEY}' is {server_round!r}, expected an integer >= 1; with "
            "an aggregate_fit strategy pass "
            f"on_fit_config_fn=lambda server_round: {{'{ROUND_KEY}': server_round}}"
        )
    return server_round
