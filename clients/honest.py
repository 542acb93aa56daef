"""The honest client: mini-batch gradient descent on its own shard of the training data."""

from collections.abc import Iterator

import numpy as np
import torch
from flwr.app import RecordDict
from flwr.client import NumPyClient
from flwr.common import NDArrays, Scalar

from clients.learning.models import load_parameters, parameters_of
from clients.learning.schedules import learning_rate
from clients.learning.steps import evaluate, loss, loss_and_gradient, own_draws, replica
from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks import Task, shard_of

ROUND_KEY = "server-round"


class HonestClient(NumPyClient):
    """A correct worker of the paper, and the base of the Byzantine ones.

    Its answer is a pure function of (settings, task, partition, parameters, round): the same bytes
    in every process, on every engine, in any order of calls. It keeps no state between rounds, so
    one object may serve several threads at once.

    A Byzantine client forges what it proposes (`clients.byzantine`) or overrides `spoil`, and
    nothing else: in every other respect, also in the metrics that it reports, it cannot be told
    from an honest one.

    Parameters
    ----------
    settings : Settings
        The learning problem.
    task : Task
        The data that `settings` asks for.
    partition_id : int
        Which of the shards is this client's own; see `clients.tasks.shard_of`.

    Raises
    ------
    ValueError
        If there is no such partition, or no split that gives every client a training row.
    """

    def __init__(self, settings: Settings, task: Task, partition_id: int) -> None:
        if not 0 <= partition_id < settings.num_clients:
            raise ValueError(
                f"partition_id is {partition_id}, expected 0 to {settings.num_clients - 1} "
                f"(num-clients is {settings.num_clients})"
            )
        self.settings = settings
        self.task = task
        self.partition_id = partition_id
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
        model = replica(self.settings)
        load_parameters(model, parameters)
        rate = learning_rate(self.settings, server_round)
        losses = []
        for x, y in self._batches(server_round):
            value, gradient = loss_and_gradient(model, x, y)
            losses.append(value.item())
            with torch.no_grad():
                for parameter, part in zip(model.parameters(), gradient, strict=True):
                    parameter.sub_(part, alpha=rate)
        return in_dtypes_of(parameters, list(parameters_of(model).values())), losses[0]

    def answer(self, parameters: NDArrays, server_round: int) -> tuple[NDArrays, float]:
        """Return this client's proposal; once the attack is over, an honest client's."""
        with own_draws(self.settings, self.partition_id, server_round):
            if self.settings.attack_is_over(server_round):
                return HonestClient.propose(self, parameters, server_round)
            return self.propose(parameters, server_round)

    def first_loss(self, parameters: NDArrays, server_round: int) -> float:
        """Return the loss that an honest client reports: on the round's first mini-batch."""
        model = replica(self.settings)
        load_parameters(model, parameters)
        with torch.inference_mode():
            return loss(model, *next(self._batches(server_round))).item()

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
        proposal, first_loss = self.answer(parameters, server_round)
        return proposal, self.num_examples, {"loss": first_loss}

    def spoil(self, content: RecordDict) -> None:
        """Leave the reply to a training message as it is; a Byzantine client may not."""

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
        """Draw each of the round's mini-batches, with replacement, as places in the own shard."""
        rng = stream(self.settings.seed, Purpose.BATCH, self.partition_id, server_round)
        for _ in range(self.settings.local_steps):
            yield rng.integers(self.num_examples, size=self.settings.batch_size)

    def _batches(self, server_round: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for drawn in self.draws(server_round):
            rows = self.shard[torch.from_numpy(drawn)]
            yield self.task.train_x[rows], self.task.train_y[rows]


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
