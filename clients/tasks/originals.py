"""Images in four IDX files, as MNIST and Fashion-MNIST are published: found, checked, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from clients.tasks.files import DataError, check_labels, check_sum
from clients.tasks.folds import split
from clients.tasks.idx import read_idx
from clients.tasks.task import Task
from clients.tasks.torchvision_ops import import_torchvision_datasets

CLASSES = 10
SIDE = 28

_NAMES = tuple(
    f"{part}-{content}-ubyte"
    for part in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)

Examples = tuple[torch.Tensor, torch.Tensor]
"""Images (N, 1, 28, 28), float32, and labels (N,), int64."""


@dataclass(frozen=True, eq=False)  # hashed by identity
class Originals:
    """The original files of one set of images.

    Attributes
    ----------
    title : str
    kind : str
        The class in torchvision that downloads them into a folder of its name, and knows the md5
        sums of the packed files.
    mean, std : float
        Of the pixels of the training images, scaled to [0, 1].
    unpacked : mapping of name to md5
        Of unpacked files, where they are known.
    instead : str
        What is taken without the files, if anything.
    elsewhere : tuple of str
        Other folders in which the files may be.
    train_rows, test_rows : int
    """

    title: str
    kind: str
    mean: float
    std: float
    unpacked: Mapping[str, str] = field(default_factory=dict)
    instead: str = ""
    elsewhere: tuple[str, ...] = ()
    train_rows: int = 60_000
    test_rows: int = 10_000

    def folder_in(self, folder: Path) -> Path | None:
        """Return the folder below that holds any of the four files, None if there is none."""
        for name in (self.kind, *self.elsewhere):
            raw = folder / name / "raw"
            if any(self.find(raw, file) for file in _NAMES):
                return raw
        return None

    def load(self, name: str, raw: Path, seed: int, folds: int, fold: int) -> Task:
        """Read the files into a task of a name; with folds, the training images are divided.

        Raises
        ------
        DataError
            If a file is missing or damaged, or is not the original.
        """
        train = _read(self, raw, "train", self.train_rows)
        test = _read(self, raw, "t10k", self.test_rows)
        if folds:
            train, test = divided(train, split(self.train_rows, seed, folds, fold))
        unknown = any(self.sum_of(self.file(raw, each)) is None for each in _NAMES)
        what = "files without a known checksum" if unknown else "original"
        source = f"{self.title}, {what}: {raw} ({self.train_rows} + {self.test_rows} images)"
        return Task(name, *train, *test, classes=CLASSES, source=source)

    def download(self, folder: Path) -> None:
        """Have torchvision fetch the files, unless all of them are there.

        Raises
        ------
        DataError
            If it fails.
        """
        raw = self.folder_in(folder)
        if raw is not None and all(self.find(raw, name) for name in _NAMES):
            return
        try:
            getattr(import_torchvision_datasets(), self.kind)(str(folder), download=True)
        except (RuntimeError, OSError) as error:
            without = f", or set download=false to use {self.instead}" if self.instead else ""
            raise DataError.about(
                folder / self.kind / "raw",
                f"the download failed ({error})",
                "four files",
                f"Put the four original files there{without}.",
            ) from error

    def file(self, raw: Path, name: str) -> Path:
        """Return the file of a name, packed or not.

        Raises
        ------
        DataError
            If there is none.
        """
        if (found := self.find(raw, name)) is None:
            raise DataError.about(raw / name, "no such file", "it or its .gz", self.way_out)
        return found

    def find(self, raw: Path, name: str) -> Path | None:
        """Return the file of a name, if there is one: rather one that can be checked."""
        files = [file for file in (raw / name, raw / f"{name}.gz") if file.exists()]
        return min(files, key=lambda file: self.sum_of(file) is None, default=None)

    def sum_of(self, file: Path) -> str | None:
        """Return the md5 sum that a file must have, where it is known."""
        published = dict(getattr(import_torchvision_datasets(), self.kind).resources)
        return {**published, **self.unpacked}.get(file.name)

    @property
    def way_out(self) -> str:
        """What to do about a file that is missing or damaged."""
        if self.instead:
            last = f"set download=true to fetch it, or remove the folder to use {self.instead}"
            return f"Put the original there, {last}."
        return "Put the original there, or set download=true to fetch it."


@lru_cache(maxsize=4)  # 190 MB for a set, the same for every seed
def _read(originals: Originals, raw: Path, part: str, rows: int) -> Examples:
    """Read the images and labels of one part, "train" or "t10k"."""
    way_out = originals.way_out
    files = [originals.file(raw, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images = read_idx(files[0], (rows, SIDE, SIDE), way_out)
    labels = read_idx(files[1], (rows,), way_out)
    check_labels(files[1], labels, CLASSES, way_out)
    for file in files:
        if (expected := originals.sum_of(file)) is not None:
            check_sum(file, expected, way_out)
    return examples(images, labels, originals.mean, originals.std)


def examples(images: np.ndarray, labels: np.ndarray, mean: float, std: float) -> Examples:
    """Return images of bytes, (N, side, side), scaled to [0, 1] and normalised, with labels."""
    x = torch.from_numpy(images.astype(np.float32)).unsqueeze(1)
    x.div_(255).sub_(mean).div_(std)
    return x, torch.from_numpy(labels.astype(np.int64))


def divided(found: Examples, rows: tuple[np.ndarray, np.ndarray]) -> tuple[Examples, Examples]:
    """Return the examples of two sets of rows."""
    x, y = found
    first, second = map(torch.from_numpy, rows)
    return (x[first], y[first]), (x[second], y[second])
