"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.run.history import RoundRecord, evaluated
from simulations.show.colours import looks_of


def accuracy_curves(
    histories: Mapping[str, Sequence[RoundRecord]],
    rules: Sequence[str],
    title: str,
    path: Path,
    window: int = 15,
) -> None:
    """Draw test accuracy over rounds, one line for each run, and save the picture.

    Parameters
    ----------
    histories : mapping of label to history
        In the order of the legend.
    rules : sequence of str
        The runs' rules as they are written, which decide about colours.
    title : str
        What the runs have in common.
    path : Path
        The suffix decides the format.
    window : int
        Evaluations, the middle one among them, of the running mean over the raw curve.
    """
    of_lines = f"thin: single evaluations; thick: means of the {window} around each"
    figure, axes = panel(title, f"round ({of_lines})", "test accuracy")
    for (label, history), look in zip(histories.items(), looks_of(rules), strict=True):
        rounds, accuracies = map(np.array, zip(*evaluated(history), strict=True))
        axes.plot(rounds, accuracies, **look, alpha=0.18, linewidth=0.8)
        axes.plot(rounds, _running_mean(accuracies, window), **look, label=label)
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
    """Return the mean of the ``window`` values around each, of fewer towards both ends."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    places = np.arange(len(values))
    reach = np.minimum(window // 2, np.minimum(places, places[::-1]))
    means: np.ndarray = (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
    return means
