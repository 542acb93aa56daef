"""Several runs on a Ray cluster, each a task of its own with one thread.

A task runs in a folder of the machine that it lands on and sends its files back, so that nothing
has to be shared. Which machine that is does not change a number, as for
`simulations.engines.parallel`; it needs this package's requirements, and the files of parts of
one's own where they are here.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from threadpoolctl import threadpool_limits

import clients
import flwr_krum
import simulations
from simulations.engines.engines import quiet_flower, run
from simulations.engines.parallel import RunObserver
from simulations.run.config import RunConfig
from simulations.run.folder import alone_in, replace_file
from simulations.run.history import (
    CONFIG_FILE,
    DISTANCES_FILE,
    HISTORY_FILE,
    JOURNAL_FILE,
    MODEL_FILE,
    RoundRecord,
)
from simulations.run.origin import ORIGIN_FILE

PATIENCE = 10.0
"""Seconds that a cluster may take to accept a connection."""

HERE = "ray"
"""What is said for a Ray of this machine's own, in place of a cluster's address."""

Files = Mapping[str, bytes]

# The history is the last: with it a run counts as made. Distances are there where asked for.
_FILES = (ORIGIN_FILE, DISTANCES_FILE, JOURNAL_FILE, MODEL_FILE, HISTORY_FILE)


def run_all_on_ray(
    configs: Mapping[str, RunConfig], engine: str, address: str, observer: RunObserver
) -> None:
    """Run several federations; each one's history and model are in its run folder afterwards.

    Parameters
    ----------
    configs : mapping of label to RunConfig
        Each runs from its first round.
    engine : str
        As for `simulations.engines.engines.run`.
    address : str
        Of a cluster, such as ``ray://HOST:10001``, ``HOST:6379`` or ``auto``; or `HERE`.
    observer : callable, (label, RoundRecord) -> None
        Called after the last round of each run.

    Raises
    ------
    ValueError
        If there is no Ray at the address.
    Exception
        What the first run that fails raises; those that have not begun then never do.
    """
    with _joined(address) as ray:
        task = ray.remote(num_cpus=1)(_run_away)
        going = {task.remote(_away(config), engine): label for label, config in configs.items()}
        while going:
            (over, *_), _ = ray.wait(list(going))
            label = going.pop(over)
            try:
                files, record = ray.get(over)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            _keep(configs[label], files)
            observer(label, record)


@contextmanager
def _joined(address: str) -> Iterator[ModuleType]:
    """Start or join a Ray, and end or leave it."""
    import ray  # takes seconds, and the other ways need it not

    _check_is_reached(address)
    packages = [str(Path(each.__path__[0])) for each in (flwr_krum, clients, simulations)]
    try:
        ray.init(
            address=None if address == HERE else address,
            runtime_env=None if address == HERE else {"py_modules": packages},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # Ray's words for what is wrong with it, of many types
        raise ValueError(f"there is no Ray at {address!r}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_is_reached(address: str) -> None:
    """Raise ValueError where nobody listens, which Ray would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # a Ray of this machine, or one that Ray finds by itself
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"there is no Ray at {address!r}: {error}") from error


def _away(config: RunConfig) -> dict[str, Any]:
    """Return the run config for any folder, on any machine."""
    data = str(Path(config.settings.data_dir).resolve())
    return {**config.to_config(), "resume": False, "data-dir": data}


def _run_away(run_config: dict[str, Any], engine: str) -> tuple[Files, RoundRecord]:
    """Make a run in a folder that is gone afterwards; return its files and its last round."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    records: list[RoundRecord] = []
    with TemporaryDirectory() as folder, quiet_flower():
        config = replace(RunConfig.from_config(run_config), run_dir=folder)
        run(config, engine, records.append)
        made = [path for name in _FILES if (path := Path(folder, name)).exists()]
        return {path.name: path.read_bytes() for path in made}, records[-1]


def _keep(config: RunConfig, files: Files) -> None:
    folder = Path(config.run_dir)
    with alone_in(folder):
        # Not a moment of an older run's rounds beside this one's model.
        (folder / HISTORY_FILE).unlink(missing_ok=True)
        replace_file(
            folder / CONFIG_FILE, (json.dumps(config.to_config(), indent=2) + "\n").encode()
        )
        for name, content in files.items():
            replace_file(folder / name, content)
