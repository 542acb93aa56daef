"""Fashion-MNIST: images of clothes, of the sizes of MNIST (Xiao, Rasul, Vollgraf 2017).

No package carries a copy: the four original files are needed, which torchvision can download. The
sums of the packed ones are known; files that somebody unpacked are read, and said to be unchecked.
"""

from pathlib import Path

from clients.tasks.files import DataError
from clients.tasks.originals import Originals
from clients.tasks.task import Task

ORIGINALS = Originals(
    "Fashion-MNIST", "FashionMNIST", mean=0.2860, std=0.3530, elsewhere=("fashion-mnist",)
)


def load(folder: Path, download: bool, seed: int, folds: int = 0, fold: int = 0) -> Task:
    """Load Fashion-MNIST with pixels ``(x / 255 - 0.2860) / 0.3530``, shape (N, 1, 28, 28).

    Parameters
    ----------
    folder : Path
        Looked through for the four original files in ``FashionMNIST/raw`` (where torchvision puts
        them) and ``fashion-mnist/raw``.
    download, seed, folds, fold
        As for `clients.tasks.mnist.load`.

    Raises
    ------
    DataError
        If some of the files are missing, damaged or not the originals.
    """
    if download:
        ORIGINALS.download(folder)
    raw = ORIGINALS.folder_in(folder)
    if raw is None:
        missing = folder / ORIGINALS.kind / "raw"
        way_out = "Put them there, or set download=true to fetch them."
        raise DataError.about(missing, "no such files", "the four of Fashion-MNIST", way_out)
    return ORIGINALS.load("fashion-mnist", raw, seed, folds, fold)
