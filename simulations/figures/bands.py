"""A curve over seeds: its numbers, their median, and their band."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from simulations.figures.rows import Row
from simulations.figures.statements import Window

QUARTILES_FROM = 5
"""Seeds from which on a band shows quartiles; with fewer it spans all of them."""

BySeed = Mapping[int, Mapping[float, float]]
"""y by seed and x."""


@dataclass(frozen=True)
class Band:
    """Median and edges of the band at each x, arrays of one length."""

    x: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band_of(values: BySeed, is_swept: bool = False) -> Band:
    """Return median and band of a curve at those x that all seeds have.

    Along a sweep, at every x, over the seeds that have it: a claim may ask for more at one.
    """
    sets = [set(of_seed) for of_seed in values.values()]
    if not is_swept:
        x = sorted(set.intersection(*sets))
        edges = _edges_of([[of_seed[at] for at in x] for of_seed in values.values()])
    else:
        x = sorted(set.union(*sets))
        of_each = [[[y[at]] for y in values.values() if at in y] for at in x]
        edges = np.hstack([_edges_of(numbers) for numbers in of_each])
    low, median, high = edges
    return Band(np.array(x), median, low, high)


def _edges_of(table: list[list[float]]) -> np.ndarray:
    """Return lower edge, median and upper edge (3, x) of numbers by seed and x."""
    spanned = (25, 50, 75) if len(table) >= QUARTILES_FROM else (0, 50, 100)
    edges: np.ndarray = np.percentile(np.array(table), spanned, axis=0)
    return edges


def band_words(numbers: Collection[int], folds: int = 0, first_seed: int = 0) -> str:
    """Say what line and band are, from the number of seeds of each curve."""
    least, most = min(numbers), max(numbers)
    band = "quartiles" if least >= QUARTILES_FROM else "least to greatest"
    if least < QUARTILES_FROM <= most:
        band = f"band (quartiles from {QUARTILES_FROM} seeds on, else least to greatest)"
    seeds = f"{least}" if least == most else f"{least} to {most}"
    words = f"median and {band} of {seeds} seeds" if most > 1 else "one seed"
    if first_seed:
        words += f" from {first_seed} on"
    return f"{words}, each the mean of {folds} folds" if folds else words


def by_seed(rows: Iterable[Row], y: str, window: Window | None = None) -> BySeed:
    """Gather one curve's numbers; folds of a seed are averaged.

    Parameters
    ----------
    rows : iterable of Row
        Those of the curve.
    y : "accuracy" | "error"
    window : (int, int), optional
        With it, x is the swept value and y the mean over these rounds; without, x is the round.
    """
    gathered: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        x: float | None = row.round
        if window is not None:
            x = row.swept if window[0] <= row.round <= window[1] else None
        if x is not None:
            value = row.accuracy if y == "accuracy" else 1.0 - row.accuracy
            gathered[row.seed][x].append(value)
    return {
        seed: {x: float(np.mean(numbers)) for x, numbers in sorted(of_seed.items())}
        for seed, of_seed in gathered.items()
    }
