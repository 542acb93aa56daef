"""``python -m simulations speed``: rounds per second of each engine.

Measured through the real strategies, with reports, journal, history and evaluation, and put beside
the arithmetic that no engine can do without: the gradients.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from typer import Option

from clients.learning.steps import full_gradient, loss_and_gradient, replica
from clients.tasks import load_task
from simulations.engines.engines import ENGINES, quiet_flower, run
from simulations.run.config import RunConfig
from simulations.show.terminal import one_of

WARM_UP = 5
"""Rounds that do not count: they load data and code."""

TENTHS = 10
"""Parts of the rounds that are looked at by themselves: on a shared machine some are disturbed."""

GRADIENTS = "gradients alone"

_ENGINE = one_of(ENGINES, "Once for each engine to measure.")

_PROBLEMS: dict[str, dict[str, Any]] = {
    "spam, MLP, n = 20, batch 3, a third Gaussian": {
        "f": 6, "attack": "gaussian", "evaluate-every": 5,
    },
    "MNIST, ConvNet, n = 20, batch 3, no attack": {
        "task": "mnist", "f": 6, "batch-size": 3, "evaluate-every": 1000,
    },
    "MNIST, ConvNet, n = 20, batch 10, 40 % omniscient": {
        "task": "mnist", "f": 8, "attack": "omniscient", "omniscient-examples": 256,
        "batch-size": 10, "evaluate-every": 1000,
    },
}  # fmt: skip


def speed(
    engine: Annotated[list[str], _ENGINE] = list(ENGINES[:2]),  # noqa: B006 (typer reads it)
    rounds: Annotated[int, Option(min=1, help="A tenth of them where rounds are long.")] = 300,
) -> None:
    """Measure rounds per second, through the real strategies, on one core."""
    table = Table(title="Rounds per second")
    for column in ("problem", "engine"):
        table.add_column(column)
    for column in ("of processor time", "by the clock", "in the best tenth"):
        table.add_column(column, justify="right")
    for found in speeds(engine, rounds):
        rates = (found.by_processor, found.by_clock, found.at_best)
        cells = ["" if rate is None else f"{rate:.3g}" for rate in rates]
        table.add_row(found.problem, found.engine, *cells)
    Console().print(table)


@dataclass(frozen=True)
class Speed:
    """Rounds per second.

    Attributes
    ----------
    problem, engine : str
    by_processor : float or None
        Of the processor's time; None where other processes work.
    by_clock : float
    at_best : float
        By the clock, in that tenth of the rounds in which the machine did least besides.
    """

    problem: str
    engine: str
    by_processor: float | None
    by_clock: float
    at_best: float


def speeds(engines: Sequence[str], rounds: int) -> Iterator[Speed]:
    """Measure each engine on each problem.

    Parameters
    ----------
    engines : sequence of str
        As for `simulations.engines.engines.run`.
    rounds : int
        Rounds to count; a tenth of them for MNIST, and on Ray.
    """
    for problem, options in _PROBLEMS.items():
        few = max(1, rounds // 10) if "task" in options else rounds
        for engine in engines:
            counted = max(1, few // 10) if engine == "ray" else few
            keys = {**options, "num-server-rounds": counted + WARM_UP}
            yield _measured(problem, keys, engine)
        config = RunConfig.from_config(options)
        taken = _gradients(config)
        usual, least = 1.0 / float(np.median(taken)), 1.0 / min(taken)
        yield Speed(problem, GRADIENTS, usual, usual, least)


def _measured(problem: str, keys: dict[str, Any], engine: str) -> Speed:
    ticks: list[tuple[float, float]] = []
    with TemporaryDirectory() as folder, quiet_flower():
        config = RunConfig.from_config({**keys, "run-dir": str(Path(folder, "run"))})
        run(config, engine, lambda record: ticks.append((time.process_time(), time.perf_counter())))
    counted = np.array(ticks[WARM_UP:])
    rounds = len(counted) - 1
    processor, clock = (rounds / (counted[-1] - counted[0])).tolist()
    tenth = max(1, rounds // TENTHS)
    at_best = tenth / float(np.diff(counted[::tenth, 1]).min())
    return Speed(problem, engine, None if engine == "ray" else processor, clock, at_best)


def _gradients(config: RunConfig) -> list[float]:
    """Time PyTorch at one gradient of all a round's examples: seconds, several times over."""
    settings, task = config.settings, load_task(config.settings)
    model = replica(settings)
    honest = settings.num_clients - len(config.byzantine_clients())
    rows = settings.batch_size * honest
    taken = []
    for _ in range(20):
        start = time.process_time()
        loss_and_gradient(model, task.train_x[:rows], task.train_y[:rows])
        if settings.attack == "omniscient":
            seen = slice(settings.omniscient_examples)
            full_gradient(model, task.train_x[seen], task.train_y[seen])
        taken.append(time.process_time() - start)
    return taken
