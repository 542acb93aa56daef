"""Engines of virtual runs: this process, or Flower's simulation on Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Context, RecordDict

from clients.client_app import build_client_app
from simulations.config import RunConfig
from simulations.inprocess import InProcessGrid
from simulations.server_app import Observer, build_server_app

ENGINES = ("inprocess", "ray")


def run(config: RunConfig, engine: str = "inprocess", observer: Observer | None = None) -> None:
    """Run a federation; its history and model are in ``config.run_dir`` afterwards.

    Parameters
    ----------
    config : RunConfig
        What to run.
    engine : "inprocess" | "ray"
        The same configuration gives the same model bytes on both.
    observer : callable, RoundRecord -> None, optional
        Called after every round.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}, expected one of {ENGINES}")
    (_run_on_ray if engine == "ray" else _run_in_process)(config, observer)


def _run_in_process(config: RunConfig, observer: Observer | None) -> None:
    run_config = config.to_config()
    grid = InProcessGrid(build_client_app(run_config), config.settings.num_clients)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    build_server_app(run_config, observer)(grid, context)


def _run_on_ray(config: RunConfig, observer: Observer | None) -> None:
    # Imported here: it takes seconds and needs the extra, and the other engine needs neither.
    from flwr.simulation import run_simulation

    run_config = config.to_config()
    run_simulation(
        server_app=build_server_app(run_config, observer),
        client_app=build_client_app(run_config),
        num_supernodes=config.settings.num_clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )


@contextmanager
def quiet_flower(level: int = logging.ERROR) -> Iterator[None]:
    """Keep Flower's log below ``level`` off the terminal, where a progress bar is."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
