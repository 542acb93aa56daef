"""Rounds to aggregate: realistic updates of a model in many layers of very uneven size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]

PARAMETER, STEP = 0.05, 1e-3
"""Standard deviations of a parameter of the global model and of one step of training."""

BYZANTINE = 200.0**0.5
"""Standard deviation of the Byzantine clients' Gaussian vectors (the paper's variance, 200)."""

SAMPLED = 256
"""Coordinates by which two results are compared."""


@dataclass(frozen=True)
class Case:
    """n client models of d coordinates, the last f Byzantine, and the global model.

    ``rows`` and ``models`` are the same memory, as vectors (d,) and as layers.
    """

    rows: tuple[Vector, ...]
    base: Vector
    sizes: tuple[int, ...]
    f: int

    @property
    def n(self) -> int:
        """Number of clients."""
        return len(self.rows)

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return self.base.size

    @property
    def nbytes(self) -> int:
        """Bytes of all client models."""
        return sum(row.nbytes for row in self.rows)

    @cached_property
    def models(self) -> tuple[tuple[Vector, ...], ...]:
        """The client models, layer by layer."""
        return tuple(in_layers(row, self.sizes) for row in self.rows)

    @cached_property
    def reference(self) -> tuple[Vector, ...]:
        """The global model, layer by layer."""
        return in_layers(self.base, self.sizes)

    def sample(self, vector: NDArray[Any]) -> NDArray[np.float64]:
        """Return the coordinates of a (d,) vector by which results are compared."""
        where = np.linspace(0, self.d - 1, min(self.d, SAMPLED)).astype(int)
        sampled: NDArray[np.float64] = np.asarray(vector)[where].astype(np.float64)
        return sampled


def layer_sizes(d: int, layers: int) -> tuple[int, ...]:
    """Cut d coordinates into layers of very uneven size, large beside small, as in a network."""
    if not 1 <= layers <= d:
        raise ValueError(f"{layers} layers of {d} coordinates; expected 1 <= layers <= d")
    share = 0.7 ** np.minimum(np.arange(layers), 24)
    sizes = 1 + np.floor(share / share.sum() * (d - layers)).astype(int)
    sizes[0] += d - sizes.sum()
    large, small = sizes[: (layers + 1) // 2], sizes[(layers + 1) // 2 :][::-1]
    mixed = [size for pair in zip(large, small, strict=False) for size in pair]
    return tuple(int(size) for size in (*mixed, *large[len(small) :]))


def in_layers(vector: Vector, sizes: tuple[int, ...]) -> tuple[Vector, ...]:
    """View a (d,) vector as its layers."""
    return tuple(np.split(vector, np.cumsum(sizes)[:-1]))


def heterogeneous(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return n noise scales from a half to two: some clients hold cleaner data than others."""
    return rng.permutation(np.geomspace(0.5, 2.0, n))


def iid(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return n equal noise scales: all scores are nearly tied."""
    return np.ones(n)


KINDS: dict[str, Callable[[int, np.random.Generator], NDArray[np.float64]]] = {
    "heterogeneous": heterogeneous,
    "iid": iid,
}


def draw(
    n: int,
    d: int,
    *,
    f: int | None = None,
    layers: int | None = None,
    kind: str = "heterogeneous",
    parameter: float = PARAMETER,
    seed: int = 0,
) -> Case:
    """Draw a round: global model + common gradient + each honest client's own noise.

    Parameters
    ----------
    n, d : int
        Clients and coordinates.
    f : int, optional
        Byzantine clients, the last ones; by default a fifth.
    layers : int, optional
        Layers of the model; by default 20, and 4 in a model of up to 10,000 coordinates.
    kind : str
        A key of ``KINDS``: how the clients' noise differs.
    parameter : float
        Standard deviation of the global model's parameters.
    seed : int
        Decides every number.
    """
    f = n // 5 if f is None else f
    layers = (20 if d > 10_000 else 4) if layers is None else layers
    rng = np.random.default_rng([seed, n, d])
    base = _normal(d, rng, parameter)
    honest = base + _normal(d, rng, STEP)
    rows = [_normal(d, rng, STEP * scale) for scale in KINDS[kind](n - f, rng)]
    for row in rows:
        row += honest
    for _ in range(f):
        row = _normal(d, rng, BYZANTINE)
        row += base
        rows.append(row)
    return Case(tuple(rows), base, layer_sizes(d, layers), f)


def _normal(d: int, rng: np.random.Generator, scale: float) -> Vector:
    vector = rng.standard_normal(d, dtype=np.float32)
    vector *= np.float32(scale)
    return vector
