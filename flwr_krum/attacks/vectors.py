"""Byzantine vectors as pure functions of the honest ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64

Attack: TypeAlias = Callable[[Float64, int, np.random.Generator], Float64]
"""Maps honest vectors (n - f, d), f and a generator to Byzantine vectors (f, d)."""


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


def gaussian(variance: float = 200.0) -> Attack:
    """Return the attack that sends independent noise."""
    return lambda honest, f, rng: np.sqrt(variance) * rng.standard_normal((f, honest.shape[1]))


def reversed_mean(factor: float) -> Attack:
    """Return the omniscient attack: f copies of the honest mean, times -factor."""
    return lambda honest, f, rng: np.tile(-factor * honest.mean(axis=0), (f, 1))


def shifted_mean(direction: int, length: float, spread: float) -> Attack:
    """Return the attack that sends the honest mean, moved by ``length`` typical distances.

    Direction 0 is against the mean itself, 1 across it, 2 towards the origin's far side of the
    client closest to the mean: near enough to be chosen, as far as it dares. ``spread`` puts the
    colluders apart, so that their mutual distances are not a telling zero.
    """

    def attack(honest: Float64, f: int, rng: np.random.Generator) -> Float64:
        mean = honest.mean(axis=0)
        typical = np.sqrt(((honest - mean) ** 2).sum(axis=1).mean())
        if direction == 0:
            way = -mean
        elif direction == 1:
            way = honest[0] - mean
        else:
            way = honest[np.argmin(honest @ mean)] - mean
        way = way / max(np.linalg.norm(way), 1e-300)
        colluders = mean + length * typical * way
        apart = spread * typical / np.sqrt(len(mean)) * rng.standard_normal((f, len(mean)))
        vectors: Float64 = colluders + apart
        return vectors

    return attack
