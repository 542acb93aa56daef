"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from simulations.run.history import RoundRecord, evaluated

# A colour-blind safe palette (Okabe and Ito) in an order that keeps neighbours apart.
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def accuracy_curves(
    histories: Mapping[str, Sequence[RoundRecord]], title: str, path: Path, window: int = 15
) -> None:
    """Draw test accuracy over rounds, one line per run, and save the picture.

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
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    for (label, history), colour in zip(histories.items(), PALETTE, strict=False):
        rounds, accuracies = map(np.array, zip(*evaluated(history), strict=True))
        axes.plot(rounds, accuracies, color=colour, alpha=0.18, linewidth=0.8)
        axes.plot(rounds, _running_mean(accuracies, window), color=colour, label=label)
    axes.set(xlabel="round", ylabel="test accuracy", title=title)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the last ``window`` values (fewer at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
