"""The picture of a report: Krum's time over d and over n, and its memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.bars import EXTRA_MEGABYTES, MEGABYTE
from benchmarks.floor import FLOOR, READ, floor_seconds
from benchmarks.peers import (
    BYZFL_NUMPY,
    BYZFL_TORCH,
    BYZPY,
    KRUM,
    LEGACY,
    MESSAGE,
    NUMBA,
    NUMPY,
    OURS,
    THEIRS,
)
from benchmarks.quartiles import quartiles, size
from benchmarks.results import Report, Result

Shape: TypeAlias = tuple[int, int]
"""Clients and coordinates."""

# Okabe and Ito's colours, safe for the colour-blind; ours are the two warm and heavy ones.
COLOURS = {
    NUMPY: "#E69F00",
    NUMBA: "#D55E00",
    LEGACY: "#000000",
    MESSAGE: "#666666",
    BYZFL_NUMPY: "#56B4E9",
    BYZFL_TORCH: "#0072B2",
    KRUM: "#009E73",
    BYZPY: "#CC79A7",
}


def picture(report: Report, path: Path) -> None:
    """Draw Krum's processor time over d and over n and its extra memory, and save the picture."""
    sizes = report.cells("krum")
    n = _fullest([n for n, _ in sizes])
    d = _fullest([d for _, d in sizes])
    figure = Figure(figsize=(13.5, 4.6), layout=ConstrainedLayoutEngine(w_pad=0.1))
    over_d, over_n, extra = figure.subplots(1, 3)
    by_d = sorted(shape for shape in sizes if shape[0] == n)
    by_n = sorted(shape for shape in sizes if shape[1] == d)
    _lines(over_d, report, by_d, 1, _milliseconds)
    _floor(over_d, report, by_d, 1)
    over_d.set(xlabel="coordinates d", ylabel="processor time, ms", title=f"Krum, n = {n}")
    _lines(over_n, report, by_n, 0, _milliseconds)
    _floor(over_n, report, by_n, 0)
    over_n.set(xlabel="clients n", ylabel="processor time, ms", title=f"Krum, d = {size(d)}")
    _lines(extra, report, by_n, 0, _megabytes)
    extra.set(xlabel="clients n", ylabel="peak extra memory, MB (0.1: or less)")
    extra.set_title(f"Krum, d = {size(d)}")
    _limits(extra, by_n)
    for axes in (over_n, extra):
        axes.set_xticks([n for n, _ in by_n], [str(n) for n, _ in by_n])
        axes.minorticks_off()
    named = dict(_named(over_d) + _named(extra))
    figure.legend(named.values(), named.keys(), loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _named(axes: Axes) -> list[tuple[str, Artist]]:
    """Return the lines of a picture by their names."""
    lines, names = axes.get_legend_handles_labels()
    return list(zip(names, lines, strict=True))


def _fullest(values: list[int]) -> int:
    """Return the value that most cells have; the one nearest the middle of equals."""
    distinct = sorted(set(values))
    middle = (len(distinct) - 1) / 2
    return max(distinct, key=lambda v: (values.count(v), -abs(distinct.index(v) - middle)))


def _milliseconds(result: Result) -> float | None:
    return 1e3 * quartiles(result.cpu).median if result.cpu else None


def _megabytes(result: Result) -> float | None:
    return None if result.extra is None else max(result.extra / MEGABYTE, 0.1)


def _lines(
    axes: Axes,
    report: Report,
    shapes: list[Shape],
    axis: int,
    value: Callable[[Result], float | None],
) -> None:
    """Draw a line per contestant over the sizes."""
    cells = {shape: report.cell("krum", *shape) for shape in shapes}
    for name in (*THEIRS, *OURS):
        points = [
            (shape[axis], y)
            for shape, cell in cells.items()
            if name in cell and (y := value(cell[name])) is not None
        ]
        if points:
            ours = name in OURS
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[name],
                lw=2.6 if ours else 1.2,
                marker="o",
                ms=5 if ours else 3,
                zorder=3 if ours else 2,
                label=name,
            )
    axes.set(xscale="log", yscale="log")
    axes.grid(alpha=0.25, which="both", lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _floor(axes: Axes, report: Report, shapes: list[Shape], axis: int) -> None:
    """Draw the floor below the times."""
    points = [
        (shape[axis], 1e3 * floor_seconds(quartiles(read.cpu).median, *shape, report.flops))
        for shape in shapes
        if (read := report.cell(FLOOR, *shape).get(READ))
    ]
    if points:
        label = "floor: one read, n²d flops"
        axes.plot(*zip(*points, strict=True), color="#999999", lw=1.2, ls="--", label=label)


def _limits(axes: Axes, shapes: list[Shape]) -> None:
    """Draw what all inputs take, and what is promised, into the picture of memory."""
    ns, d = [n for n, _ in shapes], shapes[0][1]
    promised = EXTRA_MEGABYTES + 4 * d / MEGABYTE
    for megabytes, style, label in (
        ([4 * n * d / MEGABYTE for n in ns], ":", "memory of all inputs"),
        ([promised for _ in ns], "-.", f"promised: {EXTRA_MEGABYTES:.0f} MB + the result"),
    ):
        axes.plot(ns, megabytes, color="#999999", lw=1.2, ls=style, label=label)
