"""Digits: 1,797 handwritten digits of 8 x 8 pixels, in the package scikit-learn.

They are the test set of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998):
a task of images that needs no file and trains in seconds.
"""

from pathlib import Path

import numpy as np
import torch

from clients.tasks.files import check_labels, packaged, read_table
from clients.tasks.folds import split
from clients.tasks.originals import divided
from clients.tasks.task import Task

ROWS = 1797
SIDE = 8
CLASSES = 10
MEAN, STD = 0.3053, 0.3760  # of all pixels, scaled to [0, 1]


def load(folder: Path, download: bool, seed: int, folds: int = 0, fold: int = 0) -> Task:
    """Load the digits with pixels ``(x / 16 - 0.3053) / 0.3760``, shape (N, 1, 8, 8).

    Parameters
    ----------
    folder, download
        Without effect: nothing is looked for outside of the package.
    seed, folds, fold
        As for `clients.tasks.folds.split`.

    Raises
    ------
    DataError
        If scikit-learn is not installed, or its file is damaged.
    """
    file = packaged("sklearn", "datasets", "data", "digits.csv.gz")
    way_out = "Install scikit-learn again."
    table = read_table(file, ROWS, SIDE * SIDE + 1, np.float32, way_out)
    check_labels(file, table[:, -1], CLASSES, way_out)
    x = torch.from_numpy((table[:, :-1] / 16 - MEAN) / STD).view(-1, 1, SIDE, SIDE)
    y = torch.from_numpy(table[:, -1].astype(np.int64))
    train, test = divided((x, y), split(ROWS, seed, folds, fold))
    source = f"Digits, {ROWS} images in scikit-learn"
    return Task("digits", *train, *test, classes=CLASSES, source=source)
