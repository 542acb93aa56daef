"""What a task is."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: tensors cannot be
class Task:
    """A classification problem.

    Attributes
    ----------
    name : str
        "spambase" or "mnist".
    train_x, test_x : torch.Tensor
        (rows, ...), float32, normalised.
    train_y, test_y : torch.Tensor
        (rows,), int64, 0 <= label < classes.
    classes : int
        Number of labels.
    source : str
        Where the data came from, in words for a report.
    """

    name: str
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    classes: int
    source: str
