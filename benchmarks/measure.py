"""The clock: contestants run in turns in one process, with pinned threads.

Processor time counts user and system time of all threads: what a server loses to aggregation. Wall
time is what a round waits for. Peak memory comes from the kernel (VmHWM), which also sees what
torch and BLAS allocate. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

CORES = len(os.sched_getaffinity(0))
"""Cores that this process may use."""

LONG = 1.0
"""Processor seconds from which a first run counts; a shorter one warms caches and libraries."""


@dataclass(frozen=True)
class Patience:
    """How often a contestant runs: for ``seconds`` of processor time, at most ``most`` times.

    A run of up to ``twice`` seconds is made twice at least, a longer one once. Wall time decides
    nothing: on a busy machine that would leave the fewest runs where most are needed.
    """

    seconds: float
    most: int
    twice: float = 12.0

    def runs(self, first: float) -> int:
        """Return how many runs to make after a first one that took so many seconds."""
        wanted = min(self.most, int(self.seconds / max(first, 1e-6)))
        if first < LONG:
            return max(3, wanted)
        return max(1 if first <= self.twice else 0, wanted - 1)


@dataclass(frozen=True)
class Samples:
    """Processor and wall seconds of each run, peak extra bytes, and what the result came to."""

    cpu: tuple[float, ...] = ()
    wall: tuple[float, ...] = ()
    extra: int | None = None
    answer: Any = None
    problem: str = ""


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Hold this process to so many cores, and BLAS, OpenMP and torch to as many threads.

    Whoever asks how many cores there are is told as many: on one core nobody has a pool.
    """
    cores, torch_threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        with threadpool_limits(threads):
            torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(torch_threads)
        os.sched_setaffinity(0, cores)


def in_turns(
    calls: Mapping[str, Callable[[], Any]],
    patience: Patience,
    inspect: Callable[[str, Any], Any] = lambda name, result: None,
    *,
    must: Collection[str] = (),
    seed: int = 0,
) -> dict[str, Samples]:
    """Run every call once for its memory, then all of them in shuffled turns for their time.

    Parameters
    ----------
    calls : mapping of name to callable
        What is measured; its arguments are ready.
    patience : Patience
        How often each one runs.
    inspect : callable, (name, result) -> answer
        What is kept of the first result, outside the clock.
    must : names
        Calls whose errors are raised; those of the others are reported.
    seed : int
        Decides the order within each turn.

    Returns
    -------
    dict of name to Samples
        With ``problem`` set where a call raised.
    """
    rng = random.Random(seed)
    gc.collect()
    gc.freeze()  # what is there stays there: collecting between turns then costs nothing
    gc.disable()
    try:
        firsts = {}
        for name, call in calls.items():
            try:
                firsts[name] = _first(call, partial(inspect, name))
            except Exception as error:  # other people's code at a size that it may not bear
                if name in must:
                    raise
                problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}"
                firsts[name] = Samples(problem=problem)
        found = {name: ([*s.cpu], [*s.wall]) for name, s in firsts.items()}
        left = {n: 0 if s.problem else patience.runs(s.cpu[0]) for n, s in firsts.items()}
        for name, (cpu, wall) in found.items():
            if cpu and cpu[0] < LONG and left[name]:
                cpu.clear()
                wall.clear()
        while any(left.values()):
            turn = [name for name, runs in left.items() if runs]
            rng.shuffle(turn)
            gc.collect()
            for name in turn:
                _, cpu_seconds, wall_seconds = clocked(calls[name])
                found[name][0].append(cpu_seconds)
                found[name][1].append(wall_seconds)
                left[name] -= 1
    finally:
        gc.enable()
        gc.unfreeze()
    return {
        name: replace(firsts[name], cpu=tuple(cpu), wall=tuple(wall))
        for name, (cpu, wall) in found.items()
    }


def clocked(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Run a call; return its result, processor seconds of all threads, and wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def _first(call: Callable[[], Any], inspect: Callable[[Any], Any]) -> Samples:
    """Run a call for the first time: its peak memory, a first time, and its answer."""
    before = _reset_peak()
    result, cpu, wall = clocked(call)
    peak = _status("VmHWM")
    extra = None if before is None or peak is None else max(0, peak - before)
    return Samples((cpu,), (wall,), extra, inspect(result))


def _reset_peak() -> int | None:
    """Give freed memory back, start the peak anew, and return the bytes that are resident."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None  # not Linux, or not allowed: time is measured all the same
    return _status("VmRSS")


def _status(key: str) -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


def available_bytes() -> int:
    """Return the memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("no MemAvailable in /proc/meminfo")
