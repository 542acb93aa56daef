"""The Byzantine client: it sees what its attack needs, asks the attack, and sends its row.

What the honest clients answer is a pure function of shards, memories, model and round: an
adversary that knows their shards works it out. The f attackers of a federation collude: each comes
to the same f rows and sends its own.
"""

from __future__ import annotations

import numpy as np
from flwr.app import RecordDict
from flwr.common import NDArrays
from numpy.typing import NDArray

from clients.collusion import NOTE, Point, Rows, Seen, Team, learnt_by, played
from clients.honest import HonestClient
from clients.memory import Memory
from clients.settings import Settings
from clients.tasks import Task
from flwr_krum.attacks import Attack
from flwr_krum.attacks.attack import FACTOR


class Adversary(HonestClient):
    """A Byzantine worker that reports an honest client's loss and sends what its attack makes.

    Parameters
    ----------
    settings, task, partition_id, memory
        As for `HonestClient`.
    attack : Attack
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        partition_id: int,
        attack: Attack,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(settings, task, partition_id, memory)
        self.attack = attack
        self.team = Team.of(settings, partition_id, attack)

    def is_at_work(self, server_round: int) -> bool:
        """Say whether the client attacks in a round; else it is an honest one."""
        over = self.settings.attack_is_over(server_round)
        return not over and self.attack.is_at_work(server_round)

    def propose(self, parameters: NDArrays, server_round: int) -> tuple[NDArrays, float]:
        """Return the forged model, and the loss on the mini-batch of an honest client."""
        if not self.is_at_work(server_round):
            return self._rest(parameters, server_round)
        return self.forge(parameters, server_round), self.first_loss(parameters, server_round)

    def forge(self, parameters: NDArrays, server_round: int, seen: Seen | None = None) -> NDArrays:
        """Return the model to send, of the shapes and dtypes of the parameters.

        Parameters
        ----------
        parameters : list[np.ndarray]
            The global model, in state-dict order; left as it is.
        server_round : int
        seen : Seen, optional
            The global model, and the updates of `trained`; by default they are worked out.
        """
        made = played(self._point(parameters, server_round, seen))
        self.memory.update(made.notes)
        return _model(parameters, made.models[self.team.place])

    @property
    def factor(self) -> float | None:
        """The factor that the attack chose last; None of one that chooses none."""
        noted = self.memory.get(f"{NOTE}{FACTOR}")
        return None if noted is None else float(noted)

    @property
    def trained(self) -> tuple[int, ...]:
        """The partitions whose updates the attack is to see, in their order."""
        return self.team.trained

    def poisoned(
        self, x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the batch that this attacker trains on in place of one of its own."""
        return self.attack.poisoned(x, y, self.task.classes)

    def spoiled(self, content: RecordDict, server_round: int) -> RecordDict:
        """Return the reply to a training message as the attack leaves it."""
        return self.attack.spoiled(content) if self.is_at_work(server_round) else content

    def _rest(self, parameters: NDArrays, server_round: int) -> tuple[NDArrays, float]:
        """Answer honestly, and go on following the momenta of the shards that are known."""
        if self.settings.keeps_momentum:
            others = [i for i in self.trained if i != self.partition_id]
            point = self._point(parameters, server_round)
            self.memory.update(learnt_by(point, others).velocities)
        return super().propose(parameters, server_round)

    def _point(self, parameters: NDArrays, server_round: int, seen: Seen | None = None) -> Point:
        return Point.of(
            self.team,
            self.settings,
            self.task,
            self.attack,
            dict(self.memory),
            server_round,
            parameters,
            seen,
        )


def _model(parameters: NDArrays, numbers: Rows) -> NDArrays:
    """Return numbers (d,) as float arrays like the parameters', among their other arrays."""
    arrays, start = [], 0
    with np.errstate(over="ignore", invalid="ignore"):  # Inf is for the server to refuse
        for array in parameters:
            if array.dtype.kind == "f":
                part = numbers[start : start + array.size]
                arrays.append(part.astype(array.dtype).reshape(array.shape))
                start += array.size
            else:
                arrays.append(array.copy())
    return arrays
