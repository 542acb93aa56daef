"""CIFAR-10: colour images of ten kinds of things (Krizhevsky 2009), in torchvision's files."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from clients.tasks.files import DataError, check_sum
from clients.tasks.folds import split
from clients.tasks.originals import Examples, divided
from clients.tasks.task import Task
from clients.tasks.torchvision_ops import import_torchvision_datasets

CLASSES = 10
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Of each colour over the pixels of the 50,000 training images, scaled to [0, 1]."""

_WAY_OUT = "Put the original there, or set download=true to fetch it."


def load(folder: Path, download: bool, seed: int, folds: int = 0, fold: int = 0) -> Task:
    """Load CIFAR-10 with each colour scaled to [0, 1] and normalised, shape (N, 3, 32, 32).

    Parameters
    ----------
    folder : Path
        Looked through for ``cifar-10-batches-py``, the unpacked archive.
    download : bool
        Whether torchvision may download and unpack it there.
    seed, folds, fold
        As for `clients.tasks.folds.split`, of the 50,000 training images; the 10,000 test images
        are left alone, and without folds the set's own division is taken.

    Raises
    ------
    DataError
        If a file is missing, or is not the original.
    """
    kind = import_torchvision_datasets().CIFAR10
    batches = folder / kind.base_folder
    if download:
        _download(folder, batches)
    meta = (kind.meta["filename"], kind.meta["md5"])
    for name, md5 in (*kind.train_list, *kind.test_list, meta):
        # Before they are read: the files are pickles, which could be any program.
        check_sum(batches / name, md5, _WAY_OUT)
    train, test = _read(folder, True), _read(folder, False)
    sizes = f"{len(train[1])} + {len(test[1])} images"
    if folds:
        train, test = divided(train, split(len(train[1]), seed, folds, fold))
    source = f"CIFAR-10, original: {batches} ({sizes})"
    return Task("cifar-10", *train, *test, classes=CLASSES, source=source)


@lru_cache(maxsize=2)  # 740 MB, the same for every seed
def _read(folder: Path, train: bool) -> Examples:
    found = import_torchvision_datasets().CIFAR10(str(folder), train=train)
    x = torch.from_numpy(found.data.transpose(0, 3, 1, 2).astype(np.float32)).div_(255)
    x.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))
    return x, torch.tensor(found.targets)


def _download(folder: Path, batches: Path) -> None:
    try:
        import_torchvision_datasets().CIFAR10(str(folder), download=True)
    except (RuntimeError, OSError) as error:
        problem = f"the download failed ({error})"
        raise DataError.about(batches, problem, "the unpacked archive", _WAY_OUT) from error
