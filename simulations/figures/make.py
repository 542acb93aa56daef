"""A figure from its experiment file to its files: runs, rows, verdicts, picture, page."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from simulations.engines.effort import make_runs
from simulations.engines.protocol import protocol
from simulations.figures.bands import band_words
from simulations.figures.experiment import Experiment
from simulations.figures.page import Provenance, figure_block, update_page
from simulations.figures.pictures import draw
from simulations.figures.rows import Row, write_rows
from simulations.figures.runs import gather, place
from simulations.figures.verdicts import Verdict, verdicts_of


@dataclass(frozen=True)
class Options:
    """How much of a figure is run, on which data, and where it goes.

    Attributes
    ----------
    seeds, rounds : int
        0 is the figure's own.
    folds : int
        k of a k-fold cross-validation; 0 is none.
    first_seed : int
        The others follow.
    data, data_dir : str
        As for `simulations.engines.kept.placed`.
    out : Path
        Gets ``runs/`` and ``figure-<name>/``.
    processes : int
        Runs at a time.
    """

    seeds: int = 0
    rounds: int = 0
    folds: int = 0
    first_seed: int = 0
    data: str = "embedded"
    data_dir: str = "data"
    out: Path = Path("runs/figures")
    processes: int = 1

    def command(self, name: str) -> str:
        """Return the command line that makes a figure with these options."""
        default = Options()
        chosen = [
            f" --{key.replace('_', '-')} {getattr(self, key)}"
            for key in ("seeds", "first_seed", "rounds", "folds", "data")
            if getattr(self, key) != getattr(default, key)
        ]
        return f"python -m simulations figure {name}{''.join(chosen)}"


@dataclass(frozen=True)
class Made:
    """A finished figure."""

    verdicts: list[Verdict]
    provenance: Provenance
    picture: Path


def make(experiment: Experiment, options: Options) -> Made:
    """Run what is missing, judge, draw; write PNG, SVG, CSV and a page into the figure's folder.

    Raises
    ------
    ValueError
        If a run's settings are illegal, or there are fewer rounds than one evaluation takes.
    DataError
        If the data are missing or damaged.
    """
    rounds = options.rounds or experiment.rounds
    cells = [
        place(cell, options.out / "runs", options.data, options.data_dir)
        for cell in experiment.cells(rounds, options.seeds, options.folds, options.first_seed)
    ]
    runs = [cell.config for cell in cells]
    words = protocol(runs, options.data)
    stem = options.out / f"figure-{experiment.name}" / f"figure-{experiment.name}"
    kept = stem.with_suffix(".json")
    effort = make_runs(runs, options.processes, kept, f"figure {experiment.name}")
    rows = gather(experiment.name, cells)
    verdicts = verdicts_of(experiment.statements, rows)
    band = band_words(_numbers_of_seeds(rows), options.folds, options.first_seed)
    provenance = Provenance(options.command(experiment.called), words, band, effort)
    write_rows(stem.with_suffix(".csv"), rows)
    pictures = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    draw(experiment, rows, verdicts, [words, _sentence(band, experiment, rounds)], pictures)
    block = figure_block(experiment, verdicts, provenance, pictures[0].name)
    stem.with_suffix(".md").write_text(block)
    return Made(verdicts, provenance, pictures[0])


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
