"""One model on some examples: its loss, its gradient, its accuracy."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from clients.learning.models import build_model, drawing
from clients.settings import Settings
from clients.streams import Purpose, stream

# Numbers of examples that pass through a model at once. What comes of more, such as the channels of
# a first convolution, leaves the cache, and a pass over a whole data set takes twice the time.
CHUNK = 2**17


class _Replicas(threading.local):
    def __init__(self) -> None:
        self.models: dict[tuple[str, str], nn.Module] = {}


_replicas = _Replicas()


def replica(settings: Settings) -> nn.Module:
    """Return this thread's own copy of the model, whose parameters are left from its last use.

    Convolutions and pooling take half the time where the channels of a pixel lie side by side: its
    kernels do. Building a module takes longer than a training step of the small models, and
    sharing one between threads would mix their parameters; so every thread keeps one and
    overwrites it.
    """
    key = (settings.task, settings.model)
    if key not in _replicas.models:
        model = build_model(*key, seed=0)
        _replicas.models[key] = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _replicas.models[key]


def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of a batch, a scalar tensor.

    Parameters
    ----------
    model : nn.Module
        Maps x to logits of shape (N, classes).
    x : torch.Tensor
        (N, ...), float32.
    y : torch.Tensor
        (N,), int64 labels.
    """
    return functional.cross_entropy(model(x), y)


def loss_and_gradient(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the mean loss of a batch and its gradient, one tensor per ``model.parameters()``."""
    value = loss(model, x, y)
    return value, torch.autograd.grad(value, tuple(model.parameters()))


def full_gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the gradient of the mean loss over many examples, computed in chunks."""
    total = tuple(torch.zeros_like(parameter) for parameter in model.parameters())
    with _as_it_is(model):
        for x_chunk, y_chunk in _chunks(x, y):
            _, parts = loss_and_gradient(model, x_chunk, y_chunk)
            for accumulated, part in zip(total, parts, strict=True):
                accumulated.add_(part, alpha=len(y_chunk) / len(y))
    return total


def evaluate(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Return the mean loss and the accuracy of a model over many examples.

    An example whose logits are not all finite is a wrong answer: a destroyed model must not be
    credited with the share of the class that NaN happens to name.

    Parameters
    ----------
    model, x, y
        As for `loss`; N may be large, the examples pass through in chunks.
    """
    total, correct = 0.0, 0
    with torch.inference_mode(), _as_it_is(model):
        for x_chunk, y_chunk in _chunks(x, y):
            logits = model(x_chunk)
            total += functional.cross_entropy(logits, y_chunk, reduction="sum").item()
            right = (logits.argmax(dim=1) == y_chunk) & logits.isfinite().all(dim=1)
            correct += int(right.sum())
    return total / len(y), correct / len(y)


def predicted(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the label (N,) that a model gives each of many examples; -1 for logits that are none.

    Parameters
    ----------
    model, x
        As for `loss`; N may be large, the examples pass through in chunks.
    """
    labels = []
    with torch.inference_mode(), _as_it_is(model):
        for (x_chunk,) in _chunks(x):
            logits = model(x_chunk)
            labels.append(logits.argmax(dim=1).where(logits.isfinite().all(dim=1), -1))
    return torch.cat(labels)


@contextmanager
def _as_it_is(model: nn.Module) -> Iterator[None]:
    """Switch off what a model does in training alone: dropout, statistics of the batch."""
    model.eval()
    try:
        yield
    finally:
        model.train()


@contextmanager
def own_draws(settings: Settings, *place: int) -> Iterator[None]:
    """Let a model of the user's own, which may hold dropout, draw the numbers of a place alone.

    Parameters
    ----------
    settings : Settings
        Gives the model and the seed. The models that have a name draw nothing.
    *place : int
        Where in the run: (partition_id, server_round).
    """
    if ":" not in settings.model:
        yield
        return
    rng = stream(settings.seed, Purpose.MODEL, *place)
    with drawing(int(rng.integers(2**63))):
        yield


def _chunks(x: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield some examples at a time, of images the channels last, and their rows of the others."""
    size = max(1, CHUNK // max(1, math.prod(x.shape[1:])))
    form = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        yield x[rows].contiguous(memory_format=form), *(other[rows] for other in others)
