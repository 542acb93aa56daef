"""Inputs: RULES' worked examples, random ones, and random ones full of ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]

SIZES = ((7, 2, 3), (8, 2, 5), (11, 3, 4), (12, 2, 20), (15, 3, 8), (49, 1, 6))
"""(n, f, d) of the random inputs."""

EACH, TIED_EACH = 50, 10
"""Inputs of every size: random ones, and those with ties and duplicates."""


@dataclass(frozen=True)
class Sample:
    """A round: n client models, f of which may be Byzantine, and the global model.

    Attributes
    ----------
    V : (n, d)
        The clients' models.
    f : int
    w : (d,)
        The global model.
    root : (d,)
        A model of the server's own.
    """

    V: Float64
    f: int
    w: Float64 = field(default_factory=lambda: np.zeros(1))
    root: Float64 = field(default_factory=lambda: np.ones(1))

    @property
    def updates(self) -> Float64:
        """What the clients add to the global model, (n, d)."""
        return self.V - self.w


def random_samples(seed: int = 0) -> Iterator[Sample]:
    """Yield normal updates, each client's of a length of its own, about a global model."""
    for n, f, d in SIZES:
        for i in range(EACH):
            rng = np.random.default_rng([seed, n, f, d, i])
            updates = rng.standard_normal((n, d)) * rng.uniform(0.5, 2.0, (n, 1))
            yield _about_a_model(updates, f, rng)


def tied_samples(seed: int = 0) -> Iterator[Sample]:
    """Yield updates of small whole numbers, the last two clients repeating the first two."""
    for n, f, d in SIZES:
        for i in range(TIED_EACH):
            rng = np.random.default_rng([seed, n, f, d, i, 1])
            updates = rng.integers(-2, 3, (n, d)).astype(np.float64)
            updates[-2:] = updates[:2]
            yield _about_a_model(updates, f, rng)


def _about_a_model(updates: Float64, f: int, rng: np.random.Generator) -> Sample:
    """Add a global model of whole quarters, which keeps ties exact."""
    d = updates.shape[1]
    w = rng.integers(-8, 9, (d,)) / 4.0
    root = w + rng.standard_normal((d,))
    return Sample(w + updates, f, w, root)
