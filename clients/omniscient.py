"""The omniscient client: the true gradient, reversed and blown up."""

import threading
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from flwr.common import NDArrays

from clients.byzantine import ByzantineClient
from clients.honest import in_dtypes_of
from clients.learning.models import load_parameters
from clients.learning.schedules import learning_rate
from clients.learning.steps import full_gradient, replica
from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks import Task


class OmniscientClient(ByzantineClient):
    """A Byzantine worker that sees all training data, "as if it breached into the others' share".

    With g the gradient of the loss over all training data, or over ``omniscient_examples`` fresh
    examples of it in each round, its vector is V = -factor * g; it reaches Flower as the model
    ``w - rate * V = w + rate * factor * g``: a step up the loss.
    """

    def forge(self, parameters: NDArrays, server_round: int) -> NDArrays:
        """Return ``w + rate * factor * g``, and buffers as they are."""
        estimate = _gradient_at(_Point.of(self.settings, self.task, server_round, parameters))
        ascent = learning_rate(self.settings, server_round) * self.settings.omniscient_factor
        with np.errstate(over="ignore", invalid="ignore"):
            proposal = [
                array.copy() if part is None else array + ascent * part
                for array, part in zip(parameters, estimate, strict=True)
            ]
        return in_dtypes_of(parameters, proposal)


@dataclass(frozen=True)
class _Point:
    """Where a gradient is asked for; equal points have equal gradients."""

    settings: Settings
    task: Task
    server_round: int
    content: tuple[bytes, ...]  # the parameters' bytes, which can be hashed
    parameters: NDArrays = field(compare=False, repr=False)

    @classmethod
    def of(
        cls, settings: Settings, task: Task, server_round: int, parameters: NDArrays
    ) -> "_Point":
        content = tuple(array.tobytes() for array in parameters)
        return cls(settings, task, server_round, content, parameters)


_estimating = threading.Lock()


def _gradient_at(point: _Point) -> list[np.ndarray | None]:
    # One at a time: Flower's older engine calls the clients of a round from several threads, and
    # those that come second are to find the gradient, not to compute it again.
    with _estimating:
        return _estimate(point)


@lru_cache(maxsize=4)  # the f clients of a round ask for the same one; rounds come in order
def _estimate(point: _Point) -> list[np.ndarray | None]:
    """Return g, one float64 array per parameter and None per buffer, in state-dict order."""
    model = replica(point.settings)
    load_parameters(model, point.parameters)
    x, y = point.task.train_x, point.task.train_y
    if point.settings.omniscient_examples:
        rng = stream(point.settings.seed, Purpose.OMNISCIENT, point.server_round)
        rows = torch.from_numpy(rng.integers(len(y), size=point.settings.omniscient_examples))
        x, y = x[rows], y[rows]
    names = (name for name, _ in model.named_parameters())
    parts = dict(zip(names, full_gradient(model, x, y), strict=True))
    return [
        parts[name].numpy().astype(np.float64) if name in parts else None
        for name in model.state_dict()
    ]
