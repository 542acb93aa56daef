"""The heat map of an arena: rules by their worst case, attacks beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from simulations.arena.results import Result, Standing
from simulations.arena.words import accuracy

COLOURS = "cividis"
DARK = 0.5
"""Place on the colour map below which numbers are white."""

DESTROYED, CANNOT = "#D55E00", "#E4E4E4"
"""Colours of cells that have no number."""

NARROWEST, LETTERS = 7.0, 14
"""Width of the picture in inches, at least, and letters that fit into one of them."""

TITLE = "Last accuracy of every rule under every attack"
SIGNS = (
    "Mean of the seeds, from the best worst case down; bold: a rule's worst case. "
    "† the model was destroyed (†2: with 2 of the seeds), – the rule cannot run on n and f"
)

STYLE: Any = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "flwr_krum"}


def draw(standings: Sequence[Standing], subtitle: str, paths: Sequence[Path]) -> None:
    """Draw the last accuracies and save the picture.

    Parameters
    ----------
    standings : sequence of Standing
        The rows, from the top.
    subtitle : str
        What the runs have in common.
    paths : sequence of Path
        Their suffixes decide the formats.
    """
    attacks = [result.attack for result in standings[0].results]
    with mpl.rc_context(STYLE):
        width = max(NARROWEST, 3.6 + 0.52 * (len(attacks) + 1))
        figure = Figure(figsize=(width, 2.3 + 0.27 * len(standings)), layout="constrained")
        axes = figure.subplots()
        bounds = _bounds(standings)
        for y, standing in enumerate(standings):
            worst = standing.worst
            for x, result in enumerate([*standing.results, worst]):
                gap = 0.25 * (x == len(attacks))  # the worst case stands apart
                _cell(axes, x + gap, y, result, bounds, bold=result is worst)
        _label(axes, [standing.rule for standing in standings], attacks)
        for place, text in ((figure.suptitle, f"{TITLE}: {subtitle}"), (figure.supxlabel, SIGNS)):
            place(fill(text, int(LETTERS * width)), fontsize=8, x=0.01, ha="left")
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(*bounds), COLOURS)
        figure.colorbar(scale, ax=axes, label="last accuracy", pad=0.01)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No date: the same numbers are the same file.
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})


def _bounds(standings: Sequence[Standing]) -> tuple[float, float]:
    """Return the least and the greatest number, a little apart if they are one."""
    found = [r.last for standing in standings for r in standing.results if r.last is not None]
    least, greatest = min(found, default=0.0), max(found, default=1.0)
    return least, max(greatest, least + 1e-3)


def _cell(
    axes: Axes, x: float, y: int, result: Result, bounds: tuple[float, float], bold: bool
) -> None:
    colour: Any = DESTROYED if result.scores else CANNOT
    text, ink = _sign(result), "black"
    if result.last is not None:
        place = (result.last - bounds[0]) / (bounds[1] - bounds[0])
        colour = mpl.colormaps[COLOURS](place)
        ink = "white" if place < DARK else "black"
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, color=ink, ha="center", va="center", fontsize=7.5, fontweight=weight)


def _sign(result: Result) -> str:
    """Return the text of a cell; `SIGNS` says what it means."""
    if result.last is not None:
        return accuracy(result.last).removeprefix("0")
    if not result.scores:
        return "–"
    return "†" if result.destroyed == len(result.scores) else f"†{result.destroyed}"


def _label(axes: Axes, rules: Sequence[str], attacks: Sequence[str]) -> None:
    places = [*range(len(attacks)), len(attacks) + 0.25]
    axes.set_xticks(places, [*attacks, "worst case"], rotation=45, ha="right")
    axes.set_yticks(np.arange(len(rules)), rules)
    axes.set(xlim=(-0.5, places[-1] + 0.5), ylim=(len(rules) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
