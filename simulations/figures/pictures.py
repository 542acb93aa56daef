"""Pictures of experiments: median and band over seeds, with the verdicts beneath.

A colour is a rule, in every figure alike; dashes tell apart what a rule was up against. No meaning
hangs on colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, shorten, wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from simulations.figures.bands import band_of, by_seed
from simulations.figures.experiment import Curve, Experiment, Sweep
from simulations.figures.rows import Row
from simulations.figures.verdicts import Verdict
from simulations.run.intervals import Outcome
from simulations.show.colours import colour_of_call

DASHES: Mapping[str, Any] = {"solid": "-", "dashed": (0, (5, 2)), "dotted": (0, (1, 1.5))}
MARKS = {
    Outcome.HOLDS: ("●", "#0072B2", "holds"),
    Outcome.PARTLY: ("◐", "#0072B2", "holds in part"),
    Outcome.FAILS: ("○", "#D55E00", "does not hold"),
    Outcome.UNKNOWN: ("?", "#555555", "cannot be told"),
}
GREY = "#555555"
ERRORS = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0]
"""Ticks of the logarithmic axis."""

LINEAR_UP_TO = 1000
"""Rounds; a longer run has an axis that leaves its beginning, where most happens, some room."""

ROUNDS = [0, 50, 100, 200, 300, 500, 1000, 1500, 2000, 3000, 5000, 10_000]

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "svg.fonttype": "none",
    "svg.hashsalt": "flwr_krum",  # the same picture is the same file
}

WIDTH = 9.0
"""Of every picture, in inches, like all lengths below."""

SUBTITLE_LINE, SUBTITLE_WIDTH = 0.17, 135
"""Height, and characters that fit into the picture."""

TITLE_LINE, TITLES_WIDTH = 0.17, 102
"""The same of the titles of panels beside each other."""

LEGEND_LINE, LEGEND_COLUMNS = 0.2, 3
VERDICT_LINE = 0.21


@dataclass(frozen=True)
class _Place:
    """One panel: what is drawn in it."""

    title: str
    rows: list[Row]


def draw(
    experiment: Experiment,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    subtitle: Sequence[str],
    paths: Iterable[Path],
) -> None:
    """Draw an experiment and save it once per path; the suffix decides the format.

    Parameters
    ----------
    subtitle : sequence of str
        Data and protocol, and what line and band are; wrapped where they are too long.
    """
    with mpl.rc_context(STYLE):
        figure = _figure(experiment, rows, verdicts, subtitle)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(path, dpi=150, metadata=metadata)


def _figure(
    experiment: Experiment,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    subtitle: Sequence[str],
) -> Figure:
    places = _places(experiment, rows)
    tall, wide = len(places), len(places[0])
    single = tall * wide == 1
    legend = 0 if single else LEGEND_LINE * -(-len(_drawn(experiment)) // LEGEND_COLUMNS)
    subtitle = [part for line in subtitle for part in wrap(line, SUBTITLE_WIDTH)]
    written = 0.38 + SUBTITLE_LINE * len(subtitle)
    titled = max(place.title.count("\n") for line in places for place in line)
    head = 0.13 + written + legend + TITLE_LINE * titled + (0 if single else 0.16)
    foot = 0.65 + VERDICT_LINE * len(verdicts)
    height = head + foot + tall * (3.6 if single else 3.1 if tall == 1 else 2.35)
    figure = Figure(figsize=(WIDTH, height))
    one_task = "task" in experiment.settings
    axes = figure.subplots(tall, wide, squeeze=False, sharex=True, sharey=one_task)
    figure.subplots_adjust(
        left=0.085, right=0.78 if single else 0.975, top=1 - head / height, bottom=foot / height,
        hspace=0.28, wspace=0.12 if one_task else 0.2,
    )  # fmt: skip
    for ax, place in zip(axes.flat, (place for line in places for place in line), strict=True):
        _draw_panel(ax, experiment, place)
    _label_axes(axes, experiment, folded=any(row.fold for row in rows))
    lines = _lines(figure, experiment)
    if single:
        _name_at_the_ends(axes[0, 0], lines, tail=5 if experiment.x == "round" else 1)
    else:
        figure.legend(
            handles=[line for _, line in lines], ncols=LEGEND_COLUMNS, frameon=False, fontsize=9.5,
            handlelength=2.6, loc="upper left", bbox_to_anchor=(0.015, 1 - written / height),
            borderpad=0, borderaxespad=0,
        )  # fmt: skip
    _write_head(figure, [experiment.title, *subtitle])
    _write_verdicts(figure, verdicts)
    return figure


def _places(experiment: Experiment, rows: Sequence[Row]) -> list[list[_Place]]:
    """Lay the panels out: along x = "round", each swept value has a column of its own."""
    of_panel = {
        panel.key: [row for row in rows if row.panel == panel.key] for panel in experiment.panels
    }
    if experiment.x == "round" and (sweep := experiment.sweep):
        return [
            [
                _Place(
                    f"{panel.label}, {sweep.symbol} = {value:g}",
                    [row for row in of_panel[panel.key] if row.swept == value],
                )
                for value in sweep.values
            ]
            for panel in experiment.panels
        ]
    width = TITLES_WIDTH // len(experiment.panels)
    return [[_Place(fill(panel.label, width), of_panel[panel.key]) for panel in experiment.panels]]


def _draw_panel(ax: Axes, experiment: Experiment, place: _Place) -> None:
    last = max(row.round for row in place.rows)
    window = experiment.drawn_window(last) if experiment.x == "sweep" else None
    learnt: list[np.ndarray] = []
    for curve in _drawn(experiment):
        values = by_seed((r for r in place.rows if r.curve == curve.key), experiment.y, window)
        if not values:
            continue
        rule = {**experiment.settings, **curve.settings}["rule"]
        colour, dash = colour_of_call(rule), DASHES[curve.style]
        band = band_of(values, is_swept=window is not None)
        late = band.x > 0
        learnt += [band.low[late], band.high[late]]
        ax.fill_between(
            band.x[late], band.low[late], band.high[late], color=colour, alpha=0.16, linewidth=0
        )
        ax.plot(band.x, band.median, color=colour, linestyle=dash, lw=1.8, label=curve.label)
        for of_seed in values.values() if window else ():
            ax.plot(list(of_seed), list(of_seed.values()), "o", color=colour, markersize=3.2)
    ax.set_title(place.title)
    if window is None:
        _round_axis(ax, last)
        for first, end in experiment.windows.values():
            if end <= last:
                ax.axvspan(first - 1, end, color="#000000", alpha=0.04, linewidth=0)
        if experiment.y == "accuracy":
            # The initial model's accuracy is chance: its band would take half of the axis.
            low, high = np.min(np.concatenate(learnt)), np.max(np.concatenate(learnt))
            ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    elif experiment.sweep:
        _swept_axis(ax, experiment.sweep)
    if experiment.y == "error":
        _error_axis(ax)


def _drawn(experiment: Experiment) -> list[Curve]:
    return [curve for curve in experiment.curves if curve.style != "hidden"]


def _round_axis(ax: Axes, last: int) -> None:
    ax.set_xlim(0, last)
    grid = ax.get_gridspec()
    is_narrow = grid is not None and grid.ncols > 3  # the last number would meet the next 0
    prune = "upper" if is_narrow else None
    ax.xaxis.set_major_locator(MaxNLocator(4 if is_narrow else 5, integer=True, prune=prune))
    ax.set_xlabel("round")
    if last > LINEAR_UP_TO:
        ax.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        ax.xaxis.set_major_locator(FixedLocator([t for t in ROUNDS if t <= last]))
        ax.set_xlabel("round (square-root scale)")


def _swept_axis(ax: Axes, sweep: Sweep) -> None:
    ax.set_xlabel(sweep.label)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(sweep.values)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _error_axis(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(FixedLocator(ERRORS))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))


def _label_axes(axes: np.ndarray, experiment: Experiment, folded: bool) -> None:
    for ax in axes[:, 0]:
        ax.set_ylabel(f"{'cross-validation' if folded else 'test'} {experiment.y}")
    for ax in axes[:-1].flat:
        ax.set_xlabel("")


def _lines(figure: Figure, experiment: Experiment) -> list[tuple[Curve, Line2D]]:
    """Return the curves that are drawn, each with one of its lines."""
    drawn = {line.get_label(): line for ax in figure.axes for line in ax.get_lines()}
    return [(c, drawn[c.label]) for c in experiment.curves if c.label in drawn]


def _name_at_the_ends(ax: Axes, lines: Sequence[tuple[Curve, Line2D]], tail: int) -> None:
    """Write each line's name where its last points are, moved where it would cover another."""
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [float(np.mean(np.asarray(line.get_ydata(), dtype=float)[-tail:])) for _, line in lines]
    heights = [float(to_axes.transform((ax.get_xlim()[1], end))[1]) for end in ends]
    for (curve, line), height in zip(lines, apart(heights, 0.065), strict=True):
        ax.plot(
            [1.012, 1.052], [height, height], transform=ax.transAxes, clip_on=False,
            color=line.get_color(), linestyle=DASHES[curve.style], lw=2.2,
        )  # fmt: skip
        ax.text(1.06, height, curve.label, transform=ax.transAxes, va="center")


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights in [0, 1] moved so that any two are ``gap`` apart, in their old order.

    Heights that come too close are laid out around their mean.
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[list[float]] = []
    for i in order:
        groups.append([heights[i]])
        while len(groups) > 1 and _ends(groups[-1], gap)[0] - _ends(groups[-2], gap)[1] < gap:
            last = groups.pop()
            groups[-1] = groups[-1] + last
    placed = [_ends(group, gap)[0] + gap * place for group in groups for place in range(len(group))]
    return [height for _, height in sorted(zip(order, placed, strict=True))]


def _ends(group: Sequence[float], gap: float) -> tuple[float, float]:
    """Return where the lowest and the highest of a group go, inside [0, 1]."""
    reach = gap * (len(group) - 1)
    low = min(max(float(np.mean(group)) - reach / 2, 0.0), 1.0 - reach)
    return low, low + reach


def _write_head(figure: Figure, lines: Sequence[str]) -> None:
    height = figure.get_figheight()
    title, *subtitle = lines
    figure.text(0.015, 1 - 0.12 / height, title, fontsize=13, weight="bold", va="top")
    for i, line in enumerate(subtitle):
        y = 1 - (0.38 + SUBTITLE_LINE * i) / height
        figure.text(0.015, y, line, fontsize=8.5, color=GREY, va="top")


def _write_verdicts(figure: Figure, verdicts: Sequence[Verdict]) -> None:
    for i, verdict in enumerate(reversed(verdicts)):
        y = VERDICT_LINE * (i + 0.7) / figure.get_figheight()
        mark, colour, outcome = MARKS[verdict.outcome]
        figure.text(0.015, y, mark, color=colour, va="center")
        for x, text, weight in (
            (0.035, verdict.statement.id, "bold"),
            (0.085, outcome, "bold"),
            (0.2, shorten(verdict.statement.says, 110, placeholder=" …"), "normal"),
        ):
            figure.text(x, y, text, fontsize=8.5, weight=weight, va="center")
