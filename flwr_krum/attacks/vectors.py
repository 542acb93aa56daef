"""Lemma 1: the vector with which one client makes a weighted sum what it likes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flwr_krum.kernel.arrays import Array


def steering_vector(others: Array, target: Array, weights: Sequence[float] | None = None) -> Array:
    """Return the vector with which one client makes a weighted sum any vector it likes (Lemma 1).

    ``B = (U - sum_{i < n} l_i V_i) / l_n`` gives ``sum_{i < n} l_i V_i + l_n B = U``.

    Parameters
    ----------
    others : (n - 1, d)
        What the other clients send.
    target : (d,)
        U, what the sum shall be.
    weights : n numbers, optional
        l, the last one the attacker's own; by default all 1 / n, which is averaging.

    Raises
    ------
    ValueError
        If the number of weights is not n, or the attacker's own is 0.
    """
    n = len(others) + 1
    shares = np.full(n, 1.0 / n) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (n,) or shares[-1] == 0.0:
        raise ValueError(f"expected {n} weights, the last not 0, got {shares.tolist()}")
    vector: Array = (target - shares[:-1] @ others) / shares[-1]
    return vector
