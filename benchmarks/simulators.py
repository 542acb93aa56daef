"""Rounds of one and the same federation in this package, in Flower's engine and in BlazeFL.

The spam filter's perceptron, twenty honest clients with mini-batches of three, averaged, nothing
evaluated: what is left is what a simulator costs. All draw the same mini-batches, so that their
models must agree; BlazeFL's clients are plain PyTorch on its pool of threads. Each federation runs
in a process of its own, by the clock, on all cores it may have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.measure import CORES
from clients.honest import HonestClient
from clients.learning.models import build_model, load_parameters, parameters_of
from clients.learning.schedules import learning_rate
from clients.learning.steps import loss_and_gradient, replica
from clients.tasks import load_task
from simulations.engines.engines import quiet_flower, run
from simulations.run.config import RunConfig
from simulations.run.history import read_model

OURS, FLOWER, BLAZEFL = "this package, fast", "Flower's simulation engine, Ray", "BlazeFL"
SIMULATORS = (OURS, FLOWER, BLAZEFL)

WARM_UP = 5
"""Rounds that do not count: they load data and code, and start processes."""

SLOW = 10
"""Flower's engine runs this part of the rounds."""

_FEDERATION: dict[str, Any] = {
    "rule": "average", "f": 0, "attack": "none", "evaluate-every": 10**9,
}  # fmt: skip


@dataclass(frozen=True)
class Federated:
    """A federation that was run.

    Attributes
    ----------
    simulator : str
    rounds : int
        Beside those that do not count.
    seconds : float
        Of the usual round: the median by the clock.
    model : (d,) float64
        Where it ended.
    """

    simulator: str
    rounds: int
    seconds: float
    model: NDArray[np.float64]


def absent(simulator: str) -> str:
    """Say why a simulator cannot take part; empty if it can."""
    if simulator != BLAZEFL:
        return ""
    if find_spec("blazefl") is None:
        return "it is not installed"
    try:
        import_module("blazefl.core")
    except SyntaxError:
        return f"it needs Python 3.14, and this is {python_version()}"
    return ""


def federated(simulator: str, rounds: int) -> Federated:
    """Run the federation in a simulator, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_federated, simulator, rounds).result()


def apart(one: Federated, other: Federated) -> float:
    """Return how far two models are from each other, beside how far they are from where they began.

    Raises
    ------
    ValueError
        If one has learnt for more rounds than the other.
    """
    if one.rounds != other.rounds:
        raise ValueError(f"{one.rounds} rounds beside {other.rounds}: models of different age")
    moved = float(np.linalg.norm(one.model - _beginning()))
    return float(np.linalg.norm(one.model - other.model)) / moved


def compared(rounds: int) -> Table:
    """Run the federation in every simulator that is here, and return their rounds per second.

    Parameters
    ----------
    rounds : int
        Flower's engine runs a tenth of them.
    """
    shown = Table(title="Rounds per second: spam filter, 20 clients, batch 3, averaged")
    shown.add_column("simulator")
    for column in ("rounds", "per second", "a round takes", "models apart by"):
        shown.add_column(column, justify="right")
    ours = federated(OURS, rounds)
    for simulator in SIMULATORS:
        if absent(simulator):
            continue
        few = rounds // SLOW if simulator == FLOWER else rounds
        one = ours if simulator == OURS else federated(simulator, few)
        beside = ours if few == rounds else federated(OURS, few)
        ratio = f"{one.seconds / ours.seconds:.1f} times ours"
        cells = (str(few), f"{1.0 / one.seconds:.3g}", ratio, f"{apart(beside, one):.1g}")
        shown.add_row(simulator, *cells)
    return shown


def _beginning() -> NDArray[np.float64]:
    settings = RunConfig.from_config(_FEDERATION).settings
    model = build_model(settings.task, settings.model, settings.seed)
    return _flat(list(parameters_of(model).values()))


def _flat(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([array.ravel() for array in arrays]).astype(np.float64)


@quiet_flower()
def _federated(simulator: str, rounds: int) -> Federated:
    torch.set_num_threads(1)  # a gradient of three examples has no use for a second
    ticks: list[float] = []
    with TemporaryDirectory() as folder:
        keys = {"num-server-rounds": rounds + WARM_UP, "run-dir": str(Path(folder, "run"))}
        config = RunConfig.from_config({**_FEDERATION, **keys})
        learnt = _WAYS[simulator](config, lambda _: ticks.append(time.perf_counter()))
    usual = float(np.median(np.diff(ticks[WARM_UP:])))
    return Federated(simulator, rounds, usual, learnt)


Done = Callable[[object], None]
"""Called after each round."""


def _in_an_engine(engine: str) -> Callable[[RunConfig, Done], NDArray[np.float64]]:
    def learnt(config: RunConfig, done: Done) -> NDArray[np.float64]:
        run(config, engine, done)
        _, model = read_model(Path(config.run_dir))
        return _flat(list(model.values()))

    return learnt


def _in_blazefl(config: RunConfig, done: Done) -> NDArray[np.float64]:
    core: Any = import_module("blazefl.core")
    settings = config.settings
    task = load_task(settings)
    clients = [HonestClient(settings, task, i) for i in range(settings.num_clients)]

    class Trainer(core.ThreadPoolClientTrainer):  # type: ignore[misc]
        """Trains each client on the pool, one local step a round."""

        def __init__(self) -> None:
            self.num_parallels, self.device, self.device_count = CORES, "cpu", 0
            self.cache: list[torch.Tensor] = []
            self.stop_event, self.round = threading.Event(), 0

        def worker(
            self, cid: int, device: str, payload: torch.Tensor, stop_event: threading.Event
        ) -> torch.Tensor:
            model = replica(settings)
            with torch.no_grad():
                core.deserialize_model(model, payload)
            for x, y in clients[cid].batches(self.round):
                _, parts = loss_and_gradient(model, x, y)
                with torch.no_grad():
                    for parameter, part in zip(model.parameters(), parts, strict=True):
                        parameter.sub_(part, alpha=learning_rate(settings, self.round))
            sent: torch.Tensor = core.serialize_model(model)
            return sent

    model = build_model(settings.task, settings.model, settings.seed)
    load_parameters(model, list(parameters_of(model).values()))
    learnt, trainer = core.serialize_model(model), Trainer()
    done(None)  # the others' observers hear of the first model too
    for trainer.round in range(1, config.num_server_rounds + 1):
        trainer.local_process(learnt, list(range(len(clients))))
        learnt, trainer.cache = torch.stack(trainer.cache).mean(dim=0), []
        done(None)
    return _flat([learnt.numpy()])


_WAYS = {OURS: _in_an_engine("fast"), FLOWER: _in_an_engine("ray"), BLAZEFL: _in_blazefl}
