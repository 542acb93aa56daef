"""The server as a learner: an honest one, on a small clean shard that no client can touch."""

from __future__ import annotations

from itertools import count

import torch
from flwr.common import NDArrays

from clients.honest import HonestClient
from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks import Task

EXAMPLES = 100
"""Examples in the server's shard, drawn once for a run from all training data."""


class RootLearner(HonestClient):
    """A learner whose answer a strategy can take as its ``root``: it is called once a round.

    Parameters
    ----------
    settings : Settings
        The learning problem of the clients.
    task : Task
        The data that `settings` asks for.
    rounds_done : int
        The first answer is that of the round after these.
    """

    def __init__(self, settings: Settings, task: Task, rounds_done: int = 0) -> None:
        super().__init__(settings, task, partition_id=0)
        self.partition_id = settings.num_clients  # the mini-batches of no client
        rows = stream(settings.seed, Purpose.ROOT).permutation(len(task.train_y))
        self.shard = torch.from_numpy(rows[:EXAMPLES])
        self.num_examples = len(self.shard)
        self._rounds = count(rounds_done + 1)

    def __call__(self, parameters: NDArrays) -> NDArrays:
        """Return what the server makes of the global model in the next round."""
        return self.answer(parameters, next(self._rounds))[0]
