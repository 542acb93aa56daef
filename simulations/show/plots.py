"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.run.history import RoundRecord, evaluated

# A colour-blind safe palette (Okabe and Ito) in an order that keeps neighbours apart.
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":")


def look(place: int) -> dict[str, Any]:
    """Return how the line at a place is drawn: each time round the palette with another dash."""
    cycle, colour = divmod(place, len(PALETTE))
    return {"color": PALETTE[colour], "linestyle": LINES[cycle % len(LINES)]}


def accuracy_curves(
    histories: Mapping[str, Sequence[RoundRecord]], title: str, path: Path, window: int = 15
) -> None:
    """Draw test accuracy over rounds, one line for each run, and save the picture.

    Parameters
    ----------
    histories : mapping of label to history
        In the order of the legend.
    title : str
        What the runs have in common.
    path : Path
        The suffix decides the format.
    window : int
        Evaluations in the running mean that is drawn over the raw curve.
    """
    figure, axes = panel(title, "round", "test accuracy")
    for place, (label, history) in enumerate(histories.items()):
        rounds, accuracies = map(np.array, zip(*evaluated(history), strict=True))
        axes.plot(rounds, accuracies, **look(place), alpha=0.18, linewidth=0.8)
        axes.plot(rounds, _running_mean(accuracies, window), **look(place), label=label)
    axes.set_xlim(left=0)
    save(figure, path)


def panel(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a picture of one panel."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Save such a picture, with the names of its lines beside it."""
    figure.axes[0].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the last ``window`` values (fewer at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
