"""A figure from its experiment file to its files: runs, rows, verdicts, picture, page."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from simulations.engines.making import Making
from simulations.figures.bands import band_words
from simulations.figures.experiment import Experiment
from simulations.figures.page import FigureProvenance, figure_block, update_page
from simulations.figures.pictures import draw
from simulations.figures.rows import Row, write_rows
from simulations.figures.runs import gather
from simulations.figures.verdicts import Verdict, verdicts_of


@dataclass(frozen=True)
class Amount:
    """How much of a figure is run.

    Attributes
    ----------
    seeds, rounds : int
        0 is the figure's own.
    folds : int
        k of a k-fold cross-validation; 0 is none.
    first_seed : int
        The others follow.
    """

    seeds: int = 0
    rounds: int = 0
    folds: int = 0
    first_seed: int = 0


@dataclass(frozen=True)
class Made:
    """A finished figure."""

    verdicts: list[Verdict]
    provenance: FigureProvenance
    picture: Path


def make(experiment: Experiment, amount: Amount, making: Making, command: str) -> Made:
    """Run what is missing, judge, draw; write PNG, SVG, CSV and a page into the figure's folder.

    Parameters
    ----------
    experiment : Experiment
    amount : Amount
    making : Making
    command : str
        What is said to make it.

    Raises
    ------
    ValueError
        If a run's settings are illegal, or there are fewer rounds than one evaluation takes.
    DataError
        If the data are missing or damaged.
    """
    rounds = amount.rounds or experiment.rounds
    cells = [
        replace(cell, config=making.placed(cell.config))
        for cell in experiment.cells(rounds, amount.seeds, amount.folds, amount.first_seed)
    ]
    stem = making.out / f"figure-{experiment.name}" / f"figure-{experiment.name}"
    runs = [cell.config for cell in cells]
    provenance = making.make(runs, stem, f"figure {experiment.name}", command)
    rows = gather(experiment.name, cells)
    verdicts = verdicts_of(experiment.statements, rows)
    band = band_words(_numbers_of_seeds(rows), amount.folds, amount.first_seed)
    write_rows(stem.with_suffix(".csv"), rows)
    pictures = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    words = [provenance.protocol, _sentence(band, experiment, rounds)]
    draw(experiment, rows, verdicts, words, pictures)
    made = Made(verdicts, FigureProvenance(**vars(provenance), band=band), pictures[0])
    block = figure_block(experiment, verdicts, made.provenance, made.picture.name)
    stem.with_suffix(".md").write_text(block)
    return made


def publish(experiment: Experiment, made: Made, page: Path) -> None:
    """Put a figure on a page: its files beside it in ``figures/``, its block in its place."""
    folder = page.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".svg", ".csv"):
        shutil.copy(made.picture.with_suffix(suffix), folder)
    link = f"figures/{made.picture.name}"
    update_page(
        page, experiment.name, figure_block(experiment, made.verdicts, made.provenance, link)
    )


def _numbers_of_seeds(rows: Iterable[Row]) -> list[int]:
    """Return how many seeds each of the curves has."""
    seeds: dict[tuple[str, str, float | None], set[int]] = defaultdict(set)
    for row in rows:
        seeds[row.panel, row.curve, row.swept].add(row.seed)
    return [len(of_curve) for of_curve in seeds.values()]


def _sentence(band: str, experiment: Experiment, rounds: int) -> str:
    if experiment.x == "round":
        return f"{band[0].upper()}{band[1:]}; claims are judged on the shaded rounds"
    first, last = experiment.drawn_window(rounds)
    return f"Mean over rounds {first} to {last}; {band}; dots are single seeds"
