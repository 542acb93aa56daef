"""Experiment files: what a figure runs, how it is drawn, and what it is said to show.

An experiment is a grid. Every curve runs in every panel, at every swept value, with every seed (and
fold); the settings of a run are those of the file, its panel, its curve and the swept value, each
over the one before.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from simulations.figures.statements import Statement, Vocabulary, read_statement
from simulations.run.config import RunConfig
from simulations.run.history import final_window

FOLDER = Path(__file__).parent
NAMES = ("2", "3", "4", "5", "main-4", "main-5", "main-6", "K1", "K2", "A1")
"""The figures there are, in the order of the page: the supplement's, the main paper's, ours."""

KEYS = {"title", "caption", "source", "y", "x", "rounds", "seeds", "windows", "settings"} | {
    "panel", "curve", "sweep", "claim",
}  # fmt: skip
"""What an experiment file may say; all but panel, sweep and claim must be there."""

STYLES = ("solid", "dashed", "dotted", "hidden")


@dataclass(frozen=True)
class Sweep:
    """What varies along with the curves: a key of the run config and its values."""

    key: str
    values: tuple[float, ...]
    label: str
    symbol: str


@dataclass(frozen=True)
class Curve:
    """One line of the figure.

    Attributes
    ----------
    key, label : str
    settings : mapping
        Run config keys of its own.
    style : "solid" | "dashed" | "dotted" | "hidden"
        A hidden curve is run for a claim's sake and not drawn.
    rounds : int or None
        The most rounds that it is run for, where fewer than the figure's are enough.
    """

    key: str
    label: str
    settings: Mapping[str, Any]
    style: str = "solid"
    rounds: int | None = None


@dataclass(frozen=True)
class Panel:
    """One part of the figure, with axes of its own."""

    key: str
    label: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run: where it belongs in the figure, and its configuration."""

    panel: str
    curve: str
    swept: float | None
    config: RunConfig


@dataclass(frozen=True)
class Experiment:
    """A figure as its file declares it.

    Attributes
    ----------
    name : str
        One of `NAMES`, or the stem of a file of one's own.
    called : str
        What the command line calls it: its name, or the path of a file of one's own.
    title, caption, source : str
    y : "accuracy" | "error"
        What is drawn; an error is drawn on a logarithmic axis.
    x : "round" | "sweep"
        Along which the curves run. With "round", each swept value has a panel of its own; with
        "sweep", a point is the mean over the window "final".
    rounds, seeds : int
        How much is run unless the command says otherwise.
    """

    name: str
    called: str
    title: str
    caption: str
    source: str
    y: str
    x: str
    rounds: int
    seeds: int
    windows: Mapping[str, tuple[int, int]]
    settings: Mapping[str, Any]
    panels: tuple[Panel, ...]
    curves: tuple[Curve, ...]
    sweep: Sweep | None
    statements: tuple[Statement, ...]

    def drawn_window(self, rounds: int) -> tuple[int, int]:
        """Return the rounds that a point of a sweep is the mean of; a short run's last fifth."""
        first, last = self.windows["final"]
        return (first, last) if last <= rounds else final_window(rounds)

    def seeds_of(self, panel: str, curve: str, value: float | None) -> int:
        """Return with how many seeds a curve is run: the figure's, or more where a claim asks."""
        place = panel, curve, value
        asked = (
            statement.seeds
            for statement in self.statements
            for check in statement.checks
            for quantity in (check.of, check.against)
            if quantity is not None and (quantity.panel, quantity.curve, quantity.swept) == place
        )
        return max([self.seeds, *asked])

    def cells(self, rounds: int, seeds: int, folds: int = 0, first_seed: int = 0) -> list[Cell]:
        """Return every run of the figure, all folds of each seed from the first on.

        Parameters
        ----------
        rounds : int
        seeds : int
            How many; with 0 as many as `seeds_of` says.
        folds, first_seed : int

        Raises
        ------
        ValueError
            If the settings of a run are illegal, or it would end before its first evaluation.
        """
        values = self.sweep.values if self.sweep else (None,)
        cells = [
            Cell(panel.key, curve.key, value, self._config(panel, curve, value, extra, rounds))
            for panel, curve, value in product(self.panels, self.curves, values)
            for extra in (
                {"seed": seed, "folds": folds, "fold": fold}
                for seed in range(
                    first_seed,
                    first_seed + (seeds or self.seeds_of(panel.key, curve.key, value)),
                )
                for fold in range(max(1, folds))
            )
        ]
        longest_wait = max(cell.config.evaluate_every for cell in cells)
        if rounds < longest_wait:
            raise ValueError(f"rounds is {rounds}, expected at least {longest_wait}")
        return cells

    def _config(
        self, panel: Panel, curve: Curve, value: float | None, extra: dict[str, int], rounds: int
    ) -> RunConfig:
        swept = {self.sweep.key: value} if self.sweep else {}
        length = {"num-server-rounds": min(rounds, curve.rounds or rounds)}
        keys = {**self.settings, **panel.settings, **curve.settings, **swept, **extra, **length}
        return RunConfig.from_config(keys)


def load_experiment(name: str) -> Experiment:
    """Read the experiment file of a figure, or one of one's own by its path.

    Raises
    ------
    ValueError
        If there is no such figure, or its file is wrong.
    """
    if name in NAMES:
        return read_experiment(FOLDER / f"{name}.toml")
    path = Path(name)
    if path.suffix != ".toml":
        raise ValueError(f"figure is {name!r}, expected one of {NAMES} or a file such as my.toml")
    if path.stem in NAMES:
        raise ValueError(f"{name} would be taken for figure {path.stem}: give it another name")
    return replace(read_experiment(path), called=name)


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file; its stem is the figure's name.

    Raises
    ------
    ValueError
        If a key or a value is unknown.
    """
    try:
        return _experiment(path, tomllib.loads(path.read_text("utf-8")))
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from error
    except (TypeError, AttributeError, ValueError) as error:  # a text where a table should be
        raise ValueError(f"{path}: {error}") from error


def _experiment(path: Path, table: Mapping[str, Any]) -> Experiment:
    unknown = sorted(table.keys() - KEYS)
    if unknown:
        raise ValueError(f"unknown keys {unknown}, expected some of {sorted(KEYS)}")
    panels = tuple(Panel(**panel) for panel in table.get("panel", [_ONLY_PANEL]))
    curves = tuple(Curve(**curve) for curve in table["curve"])
    sweep = None
    if "sweep" in table:
        sweep = Sweep(**{**table["sweep"], "values": tuple(table["sweep"]["values"])})
    windows = {name: (first, last) for name, (first, last) in table["windows"].items()}
    names = Vocabulary(
        curves={curve.key: curve.label for curve in curves},
        panels={panel.key: panel.label for panel in panels},
        sweep=sweep.symbol if sweep else "",
        values=sweep.values if sweep else (),
        windows=windows,
    )
    _check_choice("y", table["y"], ("accuracy", "error"))
    _check_choice("x", table["x"], ("round", "sweep"))
    for curve in curves:
        _check_choice(f"the style of {curve.key}", curve.style, STYLES)
    return Experiment(
        name=path.stem,
        called=path.stem,
        **{key: table[key] for key in ("title", "caption", "source", "y", "x", "rounds", "seeds")},
        windows=windows,
        settings=table["settings"],
        panels=panels,
        curves=curves,
        sweep=sweep,
        statements=tuple(read_statement(claim, names) for claim in table.get("claim", [])),
    )


_ONLY_PANEL = {"key": "", "label": "", "settings": {}}


def _check_choice(what: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise ValueError(f"{what} is {value!r}, expected one of {legal}")
