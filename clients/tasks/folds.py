"""The division of rows in training and test, single or as folds."""

import numpy as np

from clients.streams import Purpose, stream


def split(num_rows: int, seed: int, folds: int = 0, fold: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows for training and those for the test, as two index arrays.

    Parameters
    ----------
    num_rows : int
        Rows to divide, in an order that the seed decides.
    seed : int
        Equal seeds give equal divisions.
    folds : int
        k of a k-fold cross-validation, at least 2; 0 is a single 80/20 split.
    fold : int
        Which of the k parts is the test, 0 <= fold < k. Each row is in exactly one.

    Raises
    ------
    ValueError
        If a fold would have no row.
    """
    permutation = stream(seed, Purpose.SPLIT).permutation(num_rows)
    if not folds:
        num_train = num_rows * 4 // 5
        return permutation[:num_train], permutation[num_train:]
    if folds > num_rows:
        raise ValueError(f"got {folds} folds for {num_rows} rows, expected at most {num_rows}")
    parts = np.array_split(permutation, folds)
    return np.concatenate(parts[:fold] + parts[fold + 1 :]), parts[fold]
