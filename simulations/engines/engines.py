"""Engines of virtual runs: this process, all clients at once or one by one, or Flower's on Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Context, RecordDict

from clients.client_app import build_client_app
from clients.cohort import Cohort
from clients.roles import build_client, role_of
from flwr_krum.kernel.threads import one_blas_thread
from simulations.engines.fast import CohortGrid
from simulations.engines.inprocess import InProcessGrid
from simulations.engines.on_ray import Backend, run_on_ray
from simulations.run.config import RunConfig
from simulations.server_app import Observer, build_server_app

ENGINES = ("fast", "inprocess", "ray")


def run(
    config: RunConfig,
    engine: str = "inprocess",
    observer: Observer | None = None,
    backend: Backend | None = None,
) -> None:
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
    backend : mapping, optional
        Flower's backend configuration, for engine "ray".

    Raises
    ------
    ValueError
        If there is no such engine, or its backend cannot be had.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}, expected one of {ENGINES}")
    if backend and engine != "ray":
        raise ValueError(f"a backend is for engine 'ray', not {engine!r}")
    # As PyTorch in the clients: sums in one order, whatever the machine has and runs besides.
    with one_blas_thread():
        if engine == "ray":
            run_on_ray(config, observer, backend or {})
            return
        grid = _cohort_grid(config) if engine == "fast" else _single_grid(config)
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        build_server_app(config.to_config(), observer, grid.factor)(grid, context)


def _single_grid(config: RunConfig) -> InProcessGrid:
    return InProcessGrid(build_client_app(config.to_config()), config.settings.num_clients)


def _cohort_grid(config: RunConfig) -> CohortGrid:
    settings = config.settings
    clients = [
        build_client(settings, i, role_of(settings, i, {})) for i in range(settings.num_clients)
    ]
    return CohortGrid(build_client_app(config.to_config()), Cohort(clients))


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
