"""Runs that are kept on disk by their configuration, and made where they are missing.

A run has a folder named by a hash of all that decides its numbers, so that whoever asks for the
same run shares it, and what was interrupted goes on where it stopped: every run, in its last round.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.catalogue import task_call
from clients.tasks import DataError, Task, load_task
from simulations.engines.parallel import run_all
from simulations.engines.ray_tasks import run_all_on_ray
from simulations.run.config import RunConfig, run_config_defaults
from simulations.run.history import RoundRecord, read_history
from simulations.show.terminal import all_runs_bar

ENGINE = "fast"
DATA = ("embedded", "full")

_SAME_NUMBERS = (
    "num-server-rounds", "run-dir", "resume", "tensorboard", "data-dir", "download",
)  # fmt: skip
"""Keys that do not change the numbers of a round that is run; which data were used does."""


def placed(config: RunConfig, folder: Path, data: str, data_dir: str) -> RunConfig:
    """Return the run in its folder, on the data asked for.

    Parameters
    ----------
    config : RunConfig
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
        is_mnist = task_call(config.settings.task).name == "mnist"
        where = {"data_dir": data_dir, "download": is_mnist}
    config = replace(config, settings=replace(config.settings, **where), resume=True)
    return replace(config, run_dir=str(folder / key(config, data)))


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


def missing(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Return the runs that are not on disk in full, each once."""
    wanted: list[RunConfig] = []
    for config in {config.run_dir: config for config in configs}.values():
        evaluated = {record.round for record in evaluations(config)}
        due = set(_due(config))
        if not due <= evaluated:
            # A run with a gap before its last evaluation cannot go on.
            torn = any(t not in evaluated for t in due if t < max(evaluated, default=0))
            # Nor can one whose clients remember what this process does not.
            wanted.append(replace(config, resume=not (torn or config.settings.remembers)))
    return wanted


def run_missing(
    configs: Sequence[RunConfig], processes: int, label: str, cluster: str = ""
) -> None:
    """Make runs, several at a time, behind one progress bar over the rounds of all of them.

    Parameters
    ----------
    configs : sequence of RunConfig
    processes : int
        Of this machine.
    label : str
        Of the bar.
    cluster : str
        Address of a Ray cluster that makes them instead, see `simulations.engines.ray_tasks`.
    """
    if not configs:
        return
    by_folder = {config.run_dir: config for config in configs}
    with all_runs_bar(label, configs) as observer:
        if cluster:
            run_all_on_ray(by_folder, ENGINE, cluster, observer)
        else:
            run_all(by_folder, ENGINE, processes, observer)


def evaluations(config: RunConfig) -> list[RoundRecord]:
    """Return the evaluations that are due, of those on disk; a longer run has more."""
    try:
        history = read_history(Path(config.run_dir))
    except FileNotFoundError:
        return []
    due = _due(config)
    return [record for record in history if record.accuracy is not None and record.round in due]


def _due(config: RunConfig) -> range:
    return range(0, config.num_server_rounds + 1, config.evaluate_every)
