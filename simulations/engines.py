"""Engines of virtual runs: this process, all clients at once or one by one, or Flower's on Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Context, RecordDict
from threadpoolctl import threadpool_limits

from clients.client_app import build_client_app
from clients.cohort import Cohort
from clients.roles import build_client, role_of
from simulations.config import RunConfig
from simulations.fast import CohortGrid
from simulations.inprocess import InProcessGrid
from simulations.server_app import Observer, build_server_app

ENGINES = ("fast", "inprocess", "ray")


def run(config: RunConfig, engine: str = "inprocess", observer: Observer | None = None) -> None:
    """Run a federation; its history and model are in ``config.run_dir`` afterwards.

    Parameters
    ----------
    config : RunConfig
        What to run.
    engine : "fast" | "inprocess" | "ray"
        The last two give the same model bytes for the same configuration: they call every client
        for itself. The first computes the clients of a round together; its models are the same up
        to the last bits of float32.
    observer : callable, RoundRecord -> None, optional
        Called after every round.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}, expected one of {ENGINES}")
    if engine == "ray":
        _run_on_ray(config, observer)
        return
    grid = _cohort_grid(config) if engine == "fast" else _single_grid(config)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    # As PyTorch in the clients: sums in one order, whatever the machine has and runs besides.
    with threadpool_limits(1, user_api="blas"):
        build_server_app(config.to_config(), observer)(grid, context)


def _single_grid(config: RunConfig) -> InProcessGrid:
    return InProcessGrid(build_client_app(config.to_config()), config.settings.num_clients)


def _cohort_grid(config: RunConfig) -> CohortGrid:
    settings = config.settings
    clients = [
        build_client(settings, i, role_of(settings, i, {})) for i in range(settings.num_clients)
    ]
    return CohortGrid(build_client_app(config.to_config()), Cohort(clients))


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
