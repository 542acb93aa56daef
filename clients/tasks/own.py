"""A task of the user's own: an object, or what makes one, as arrays of two sets of examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clients.tasks.folds import split
from clients.tasks.originals import Examples, divided
from clients.tasks.task import Task
from flwr_krum.calls import Call, build


@dataclass(frozen=True)
class Own:
    """Load a task from an object.

    Parameters
    ----------
    call : Call
        How it was written.
    made : object
        ``(train, test, classes)``, or ``(train, test)``, whose classes are then counted; or a
        callable that returns one, of arguments of its own and, if it takes one by that name, of
        the run's ``seed``. Each part is a tuple (x, y) of arrays or tensors, or a data set of
        PyTorch that has a length.
    """

    call: Call
    made: Any

    def __call__(self, folder: Path, download: bool, seed: int, folds: int, fold: int) -> Task:
        """Return the task; with folds, its training examples are divided.

        Raises
        ------
        ValueError
            If the object is none of a task.
        """
        made = self.made
        if callable(made):
            made = build(self.call, made, {"seed": seed})
        if not isinstance(made, tuple) or not 2 <= len(made) <= 3:
            found = type(made).__name__
            raise ValueError(f"{self.call.name} is {found}, expected (train, test, classes)")
        train, test = _examples("train", made[0]), _examples("test", made[1])
        counted = int(torch.cat([train[1], test[1]]).max()) + 1
        classes = made[2] if len(made) == 3 else max(2, counted)
        if not isinstance(classes, int) or classes < 2:
            raise ValueError(f"classes is {classes!r}, expected an integer >= 2")
        if counted > classes:
            raise ValueError(f"a label is {counted - 1}, expected 0 to {classes - 1}")
        if train[0].shape[1:] != test[0].shape[1:]:
            shapes = [tuple(x.shape[1:]) for x, _ in (train, test)]
            raise ValueError(f"examples are of shapes {shapes[0]} and {shapes[1]}, expected one")
        if folds:
            train, test = divided(train, split(len(train[1]), seed, folds, fold))
        sizes = f"{len(train[1])} + {len(test[1])} examples"
        return Task(self.call.name, *train, *test, classes=classes, source=f"{self.call} ({sizes})")


def _examples(part: str, given: Any) -> Examples:
    """Return x as float32 and y as int64."""
    x, y = given if isinstance(given, tuple) and len(given) == 2 else _collected(part, given)
    try:
        x = torch.as_tensor(np.asarray(x)).to(torch.float32)
        y = torch.as_tensor(np.asarray(y))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{part} is no pair of arrays: {error}") from error
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y) or not len(y):
        raise ValueError(
            f"{part} is of shapes {tuple(x.shape)} and {tuple(y.shape)}, expected (N, ...) and (N,)"
        )
    if not x.isfinite().all():
        raise ValueError(f"{part} holds NaN or Inf, expected finite numbers")
    if not torch.equal(y, y.to(torch.int64).to(y.dtype)) or y.min() < 0:
        raise ValueError(f"{part} has a label that is no whole number >= 0")
    return x, y.to(torch.int64)


def _collected(part: str, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples of a data set, side by side."""
    try:
        pairs = [dataset[i] for i in range(len(dataset))]
        return np.stack([np.asarray(x) for x, _ in pairs]), np.array([int(y) for _, y in pairs])
    except Exception as error:  # a data set of the user's own may raise anything
        raise ValueError(
            f"{part} is {type(dataset).__name__}, expected a tuple (x, y) of arrays or a data set "
            f"of such pairs ({type(error).__name__}: {error})"
        ) from error
