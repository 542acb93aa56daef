"""A table of numbers as a task: its rows divided, its columns standardised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from clients.tasks.folds import split
from clients.tasks.originals import divided
from clients.tasks.task import Task


class Table(NamedTuple):
    """Features (N, d), float64, labels (N,) from 0 to classes - 1, and where they came from."""

    features: np.ndarray
    labels: np.ndarray
    classes: int
    source: str


def table_task(name: str, table: Table, seed: int, folds: int, fold: int) -> Task:
    """Return a random split of a table, z-scored with the statistics of the training rows."""
    rows = split(len(table.labels), seed, folds, fold)
    training = table.features[rows[0]]
    mean, std = training.mean(axis=0), training.std(axis=0)
    # A feature that is constant in training says nothing: it becomes 0, not 0/0.
    scaled = ((table.features - mean) / np.where(std > 0, std, 1.0)).astype(np.float32)
    labels = torch.from_numpy(table.labels.astype(np.int64))
    train, test = divided((torch.from_numpy(scaled), labels), rows)
    return Task(name, *train, *test, classes=table.classes, source=table.source)
