"""Inputs that many tests share: random ones, and ones on which rounding decides."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from flwr_krum.kernel.exact import exact_squared_distance
from flwr_krum.kernel.updates import ClientUpdates
from tests.flwr_krum.references import (
    exact_distances,
    exact_medoid_scores,
    krum_scores,
    medoid_scores,
    squared_distances,
)


def updates_of(
    V: Sequence[Any] | np.ndarray, device: str = "cpu", base: np.ndarray | None = None
) -> ClientUpdates:
    """Return updates whose models are the rows of a matrix, each of one layer."""
    models = [[row] for row in V]
    return ClientUpdates.from_layers(models, None if base is None else [base], device=device)


@dataclass(frozen=True)
class Draw:
    """An input of n vectors, a legal f, and its squared distances by a loop."""

    V: np.ndarray
    f: int
    squared: list[list[Any]]

    @cached_property
    def krum_scores(self) -> list[Any]:
        """Krum's scores, worked out once for every device and rule."""
        return krum_scores(self.squared, len(self.V) - self.f - 2)

    @cached_property
    def rounded_medoid_scores(self) -> list[float]:
        """The sums of distances, rounded to nine digits."""
        return medoid_scores(self.squared)

    @cached_property
    def medoid_scores(self) -> list[Any]:
        """The exact sums of distances, for inputs whose squares are fractions."""
        return exact_medoid_scores(self.squared)


DRAW_KINDS = ("small whole numbers", "scalars", "repeated vectors", "generic")


def _draw(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    d = int(rng.integers(1, 7))
    if kind == "small whole numbers":
        return rng.integers(-2, 3, (n, d)).astype(float)
    if kind == "scalars":
        return rng.integers(0, 30, (n, 1)).astype(float)
    if kind == "repeated vectors":
        return rng.standard_normal((n, d))[rng.integers(0, max(2, n // 2), n)]
    return rng.standard_normal((n, d)) * 10.0 ** rng.integers(-2, 3)


@cache
def thousand_draws(kind: str) -> list[Draw]:
    """Return one kind of 1,000 draws that cover every n from 5 to 60 with every legal f."""
    pairs = [(n, f) for n in range(5, 61) for f in range((n - 3) // 2 + 1)]
    random.Random(0).shuffle(pairs)
    assert len(pairs) < 1000
    rng = np.random.default_rng(20171204)
    cases = [(*pairs[k % len(pairs)], DRAW_KINDS[k % len(DRAW_KINDS)]) for k in range(1000)]
    drawn = [(_draw(of, n, rng), f, of) for n, f, of in cases]
    return [Draw(V, f, squared_distances(V)) for V, f, of in drawn if of == kind]


def share_of(device: str, kind: str) -> list[Draw]:
    """Return every second one of those draws: two devices share them, and choose the same.

    That they do is tested in `kernel/test_numba_way.py`.
    """
    return thousand_draws(kind)[device == "cpu:numba" :: 2]


_EXACT: dict[tuple[bytes, ...], int] = {}


def exact_distance_once(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> int:
    """Return the package's own exact distance, worked out once for every pair of models."""
    pieces = (*a, *b)
    key = tuple(part for x in pieces for part in (x.dtype.char.encode(), x.tobytes()))
    if key not in _EXACT:
        _EXACT[key] = exact_squared_distance(a, b)
    return _EXACT[key]


def _hostile(V: np.ndarray, f: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Replace f rows, the first among them, by vectors of the given scale."""
    rows = [0, *rng.choice(np.arange(1, len(V)), max(0, f - 1), replace=False)][:f]
    V = V.copy()
    V[rows] = scale * rng.standard_normal((len(rows), V.shape[1]))
    return V


HARD = {
    "an offset of a million updates": lambda n, d, f, rng: (
        1e3 * rng.standard_normal(d) + 1e-3 * rng.standard_normal((n, d))
    ),
    "multiples of 0.1": lambda n, d, f, rng: 0.1 * rng.integers(0, 6, (n, d)),
    "tenths and thousandths": lambda n, d, f, rng: (
        rng.integers(0, 4, (n, d)) / 10 + rng.integers(0, 3, (n, d)) / 1000
    ),
    "neighbouring floats": lambda n, d, f, rng: 1.0 + 2.0**-52 * rng.integers(0, 8, (n, d)),
    "hostile 1e30": lambda n, d, f, rng: _hostile(1e-3 * rng.standard_normal((n, d)), f, 1e30, rng),
    "hostile 1e300": lambda n, d, f, rng: _hostile(
        1e-3 * rng.standard_normal((n, d)), f, 1e300, rng
    ),
    "hostile 1e16 beside multiples of 0.1": lambda n, d, f, rng: _hostile(
        0.1 * rng.integers(0, 4, (n, d)), f, 1e16, rng
    ),
    "all 1e-200": lambda n, d, f, rng: 1e-200 * rng.standard_normal((n, d)),
    "all 1e200": lambda n, d, f, rng: 1e200 * rng.standard_normal((n, d)),
    "float16 near its largest": lambda n, d, f, rng: (6e4 * rng.uniform(-1, 1, (n, d))).astype(
        np.float16
    ),
    "float16 halves": lambda n, d, f, rng: (rng.integers(-3, 3, (n, d)) / 2).astype(np.float16),
    "float32 beside an offset": lambda n, d, f, rng: (
        1e3 + 1e-3 * rng.standard_normal((n, d))
    ).astype(np.float32),
    "float32 whose squares underflow": lambda n, d, f, rng: (
        1e-30 * rng.standard_normal((n, d))
    ).astype(np.float32),
    "float32 of 3e19, whose squares overflow": lambda n, d, f, rng: (
        3e19 * rng.standard_normal((n, d))
    ).astype(np.float32),
    "float32 denormals": lambda n, d, f, rng: (1e-42 * rng.standard_normal((n, d))).astype(
        np.float32
    ),
    "float32 near ties": lambda n, d, f, rng: (
        np.eye(n, max(n, d))[:, rng.permutation(max(n, d))]
        + 2.0**-20 * rng.integers(0, 3, (n, max(n, d)))
    ).astype(np.float32),
    "float32 beside a hostile 1e30": lambda n, d, f, rng: _hostile(
        1e-3 * rng.standard_normal((n, d)), f, 1e30, rng
    ).astype(np.float32),
    "near ties at 1e-12": lambda n, d, f, rng: (
        np.eye(n, max(n, d)) + 1e-12 * rng.standard_normal((n, max(n, d)))
    ),
    "duplicates": lambda n, d, f, rng: rng.standard_normal((n, d))[rng.integers(0, n // 2, n)],
}


def hard_draw(kind: str, n: int, rng: np.random.Generator) -> Draw:
    """Return n vectors on which rounding decides, a legal f, and the exact distances."""
    f = int(rng.integers(0, (n - 3) // 2 + 1)) if n < 26 else (n - 3) // 2
    V = HARD[kind](n, int(rng.integers(1, 5)), f, rng)
    return Draw(V, f, exact_distances(V))


def hard_draws(kind: str) -> list[Draw]:
    """Return a few inputs of one kind; n = 26 and 30 are among them."""
    rng = np.random.default_rng(list(HARD).index(kind))
    sizes = (5, 5, 6, 7, 7, 8, 8, 9, 10, 11, 12, 13, 14, 17, 20, 26, 30)
    return [hard_draw(kind, n, rng) for n in sizes]


def many_hard_draws(kind: str) -> Iterable[Draw]:
    """Yield the share of one kind in ten thousand such inputs."""
    rng = np.random.default_rng(1000 + list(HARD).index(kind))
    each = -(-10_000 // len(HARD))
    sizes = rng.choice([5, 6, 7, 8, 9, 10, 13, 26, 30], each, p=[0.15] * 6 + [0.06, 0.02, 0.02])
    return (hard_draw(kind, int(n), rng) for n in sizes)
