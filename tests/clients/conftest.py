import numpy as np
import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from clients import Settings, Task, build_model, parameters_of

# As in the ClientApp; more threads also slow the tiny batches of these tests down.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_task():
    """A Spambase-shaped or MNIST-shaped task of random rows."""

    def make(rows, name="spambase", seed=0):
        rng = torch.Generator().manual_seed(seed)
        shape, classes = {"spambase": ((57,), 2), "mnist": ((1, 28, 28), 10)}[name]
        x = torch.randn(rows, *shape, generator=rng)
        y = torch.randint(classes, (rows,), generator=rng)
        return Task(name, x, y, x[:1], y[:1], classes=classes, source="random rows")

    return make


@pytest.fixture(scope="session")
def initial_parameters():
    """The arrays of a freshly built model."""

    def build(settings: Settings, seed=0) -> list[np.ndarray]:
        return list(parameters_of(build_model(settings.task, settings.model, seed)).values())

    return build


@pytest.fixture
def task_identity(monkeypatch):
    """Lets a test write instruction messages, which Flower allows only inside a run."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
