"""Memory, disk and seconds of a round whose replies do or do not fit into memory.

Each way runs in a process of its own: one round of Multi-Krum of the Message API, on a grid whose
nodes answer when they are pulled. What is counted is anonymous memory, which no system can take
back, above what the process had before the round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import flwr.serverapp.strategy as flower
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common import Code, FitRes, Parameters, Status
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server import Server, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from rich.table import Table

import flwr_krum.server.strategy as fit
import flwr_krum.serverapp.strategy as ours
from flwr_krum.boundary.npy import SERIALIZATION, form_of
from simulations.engines.engines import quiet_flower
from simulations.engines.inprocess import InProcessGrid

WAYS = ("Flower's MultiKrum", "all in memory", "memory=0", "memory=0 in aggregate_fit")
"""What is measured: Flower alone, and this package without and with a file, in both APIs."""

_CHOICE = ("decode", "check", "geometry", "rule")
"""Stages until it is known who is selected."""

_BLOCK = 2**22
"""Bytes of a raw read, and of what a model of the benchmark repeats."""


@dataclass(frozen=True)
class Took:
    """What one round took.

    Attributes
    ----------
    way : str
    models : float
        Most anonymous memory beyond the start, in models.
    seconds : float
        Of the whole round, without that plain read.
    stages : mapping of stage to seconds
        Of the aggregation; empty for Flower's own.
    written : int
        Bytes in the file.
    raw : float
        Seconds of a plain read of the file, from the disk; 0 without one.
    """

    way: str
    models: float
    seconds: float
    stages: dict[str, float]
    written: int
    raw: float


def measured(way: str, n: int, d: int, f: int, folder: Path) -> Took:
    """Return what a round of n clients of d float32 takes, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_round, way, n, d, f, folder).result()


@quiet_flower()
def _round(way: str, n: int, d: int, f: int, folder: Path) -> Took:
    kept: dict[str, Any] = {"memory": 0, "spill": folder} if way.startswith("memory=0") else {}
    kept["fraction_evaluate"] = 0.0
    cold = _Cold(folder)
    initial, in_fit = _array(d, 0), way == WAYS[3]
    strategy: Any
    if way == WAYS[0]:
        strategy = flower.MultiKrum(num_malicious_nodes=f, num_nodes_to_select=n - f, **kept)
    elif in_fit:
        parameters = Parameters([initial.data], SERIALIZATION)
        strategy = fit.MultiKrum(
            num_malicious_clients=f, initial_parameters=parameters, min_fit_clients=n, **kept
        )
    else:
        strategy = ours.MultiKrum(num_malicious_nodes=f, **kept)
    if way != WAYS[0]:
        cold.precede(strategy, "aggregate_fit" if in_fit else "aggregate_train")
    grid = _Pulled(n, d, in_fit=in_fit)
    begin, base = time.perf_counter(), _anonymous()
    with _peak() as most:
        if in_fit:
            _fit(strategy, grid)
        else:
            strategy.start(grid, ArrayRecord({"w": initial}), num_rounds=1)
    took = time.perf_counter() - begin - cold.seconds
    report = None if way == WAYS[0] else strategy.last_report
    return Took(
        way,
        (most() - base) / (4.0 * d),
        took,
        {} if report is None else dict(report.seconds),
        cold.size,
        cold.raw,
    )


def table(found: Iterable[Took], n: int, d: int) -> Table:
    """Return what the ways took, side by side."""
    shown = Table(title=f"One round of Multi-Krum, {n} clients of {d:,} float32")
    for column in ("", "models in memory", "file, GB", "round, s", "choice, s", "mean, s"):
        shown.add_column(column, justify="right" if column else "left")
    shown.add_column("plain read, s", justify="right")
    for took in found:
        choice = sum(took.stages.get(name, 0.0) for name in _CHOICE)
        mean = took.stages.get("combine", 0.0)
        cells = (took.models, took.written / 1e9, took.seconds, choice, mean, took.raw)
        shown.add_row(took.way, *(f"{cell:.2f}" if cell else "-" for cell in cells))
    return shown


def _fit(strategy: fit.MultiKrum, grid: InProcessGrid) -> None:
    """Run a round through ``aggregate_fit``, as Flower itself runs it."""
    manager = SimpleClientManager()
    for node in grid.get_node_ids():
        manager.register(GridClientProxy(node, grid, 1))
    Server(client_manager=manager, strategy=strategy).fit(1, None)


class _Cold:
    """The file of a round, read plainly once and then forgotten by the system's cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size = folder.resolve(), 0
        self.raw = self.seconds = 0.0

    def precede(self, strategy: Any, name: str) -> None:
        """Have the file read and forgotten before a method of a strategy is called."""
        own = getattr(strategy, name)

        def from_the_disk(*arguments: Any) -> Any:
            self.read()
            return own(*arguments)

        setattr(strategy, name, from_the_disk)

    def read(self) -> None:
        since = time.perf_counter()
        for descriptor in self._descriptors():
            self.size = os.fstat(descriptor).st_size
            os.fsync(descriptor)
            self._forget(descriptor)
            begin, room = time.perf_counter(), bytearray(_BLOCK)
            for start in range(0, self.size, _BLOCK):
                os.preadv(descriptor, [room], start)
            self.raw = time.perf_counter() - begin
            self._forget(descriptor)
        self.seconds = time.perf_counter() - since

    def _forget(self, descriptor: int) -> None:
        os.posix_fadvise(descriptor, 0, self.size, os.POSIX_FADV_DONTNEED)

    def _descriptors(self) -> Iterator[int]:
        for name in os.listdir("/proc/self/fd"):
            link = Path(f"/proc/self/fd/{name}")
            if link.is_symlink() and os.readlink(link).startswith(f"{self.folder}/"):
                yield int(name)


class _Pulled(InProcessGrid):
    """A grid whose replies are made when they are pulled, as if a SuperLink had them."""

    def __init__(self, n: int, d: int, *, in_fit: bool) -> None:
        super().__init__(ClientApp(), n)
        self._d, self._in_fit = d, in_fit
        self._asked = dict[str, Message]()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Remember who is asked."""
        for message in messages:
            self._number(message)
            self._asked[message.metadata.message_id] = message
        return list(self._asked)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Make the replies."""
        asked = [self._asked[id_] for id_ in message_ids]
        return [Message(self._content(m.metadata.dst_node_id), reply_to=m) for m in asked]

    def _content(self, node: int) -> RecordDict:
        array = _array(self._d, node)
        if self._in_fit:
            # With an empty array: what makes a content is part of a cycle, and stays for a while.
            result = FitRes(Status(Code.OK, ""), Parameters([b""], SERIALIZATION), 1, {})
            made = dict(fitres_to_recorddict(result, False))
            for name, record in made.items():
                if isinstance(record, ArrayRecord):
                    made[name] = ArrayRecord(dict.fromkeys(record, array))
            return RecordDict(made)
        counted = MetricRecord({"num-examples": 1})
        return RecordDict({"arrays": ArrayRecord({"w": array}), "own": counted})


def _array(d: int, node: int) -> Array:
    """Return a model of d float32 that repeats a node's own noise; node 0 has none."""
    noise = np.random.default_rng(node).standard_normal(_BLOCK // 4, np.float32) * min(node, 1)
    part = noise.tobytes()
    header = form_of((d,), np.dtype(np.float32)).header
    whole, rest = divmod(4 * d, _BLOCK)
    return Array("float32", (d,), "numpy.ndarray", b"".join([header, *[part] * whole, part[:rest]]))


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise OSError("the system does not tell anonymous memory")


@contextmanager
def _peak() -> Iterator[Callable[[], int]]:
    """Hand out a function that returns the most anonymous memory that was seen so far."""
    found, over = [_anonymous()], Event()

    def look() -> None:
        while not over.wait(0.005):
            found[0] = max(found[0], _anonymous())

    Thread(target=look, daemon=True).start()
    try:
        yield lambda: found[0]
    finally:
        over.set()
