"""Flower's simulation on Ray: on this machine, or on a Ray cluster that is already running."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from clients.client_app import build_client_app
from flwr_krum.boundary.arrivals import ArrivingGrid
from simulations.run.config import RunConfig
from simulations.server_app import Observer, build_server_app

Backend = Mapping[str, Mapping[str, Any]]

# What Flower knows, with our defaults: one CPU per client, and Ray's log off the terminal.
_DEFAULTS: Backend = {
    "client_resources": {"num_cpus": 1, "num_gpus": 0},
    "init_args": {"logging_level": "WARNING", "log_to_driver": True},
    "actor": {},
}


def read_backend(text: str) -> Backend:
    """Read a backend configuration from JSON.

    Parameters
    ----------
    text : str
        Flower's sections, each an object: ``client_resources`` (what a client takes),
        ``init_args`` (of ``ray.init``) and ``actor``. "" is none.

    Raises
    ------
    ValueError
        If it is not such an object.
    """
    try:
        backend = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"backend is {text!r}, which is not JSON: {error}") from error
    if not isinstance(backend, dict) or not all(isinstance(v, dict) for v in backend.values()):
        raise ValueError(f"backend is {text!r}, expected an object of objects")
    unknown = sorted(set(backend) - set(_DEFAULTS))
    if unknown:
        raise ValueError(f"backend has unknown sections {unknown}, expected {list(_DEFAULTS)}")
    return backend


def run_on_ray(config: RunConfig, observer: Observer | None, backend: Backend) -> None:
    """Run a federation whose clients are Ray actors.

    Parameters
    ----------
    config : RunConfig
    observer : callable, RoundRecord -> None, optional
    backend : mapping of section to settings
        As ``read_backend`` returns it; what it does not say keeps its default.
        ``{"init_args": {"address": "auto"}}`` joins a running cluster, and leaves it running.

    Raises
    ------
    ValueError
        If Ray cannot be started, joined, or hold a single client.
    """
    # Imported here: it takes seconds and needs the extra, and the other engines need neither.
    from flwr.simulation import run_simulation

    merged = {name: {**default, **backend.get(name, {})} for name, default in _DEFAULTS.items()}
    _start_ray(merged)
    run_config = config.to_config()
    over = Event()
    try:
        run_simulation(
            server_app=_ending(build_server_app(run_config, observer), over),
            client_app=build_client_app({**run_config, "data-dir": _data_dir(config)}),
            num_supernodes=config.settings.num_clients,
            backend_config=merged,
        )
    finally:
        over.set()


class EndingGrid(ArrivingGrid):
    """A grid at which a ServerApp ends as soon as the simulation is over.

    Flower runs the ServerApp in a thread of its own, which the program waits for at its end. After
    Ctrl-C that thread would wait for replies that never come, until the round's timeout.

    Parameters
    ----------
    grid : Grid
        Does the work.
    over : threading.Event
        Set when the simulation is over.
    """

    def __init__(self, grid: Grid, over: Event) -> None:
        super().__init__(grid)
        self._over = over

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are connected, while the simulation runs."""
        self._go_on()
        return super().get_node_ids()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies, while the simulation runs."""
        self._go_on()
        return super().pull_messages(message_ids)

    def _go_on(self) -> None:
        if self._over.is_set():
            raise SystemExit  # ends this thread, without a word


def _ending(app: ServerApp, over: Event) -> ServerApp:
    """Return a ServerApp that ends with its simulation."""
    ends = ServerApp()

    @ends.main()
    def main(grid: Grid, context: Context) -> None:
        app(EndingGrid(grid, over), context)

    return ends


def _data_dir(config: RunConfig) -> str:
    """Return the data folder so that workers find it, who may run in other folders than this."""
    folder, settings = Path(config.settings.data_dir), config.settings
    return str(folder.resolve()) if folder.is_dir() or settings.download else settings.data_dir


def _start_ray(backend: dict[str, dict[str, Any]]) -> None:
    """Start or join Ray as Flower does, which then finds it there, and ends or leaves it.

    If it fails in Flower's hands, the ServerApp waits for nodes that never come.
    """
    import ray
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    from flwr.simulation.ray_transport.ray_actor import pool_size_from_resources

    try:
        RayBackend(backend)
        pool_size_from_resources(backend["client_resources"])
    except Exception as error:  # Ray's words for what is wrong with it, of many types
        ray.shutdown()
        raise ValueError(f"Ray cannot run on the backend {json.dumps(backend)}: {error}") from error
