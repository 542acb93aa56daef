"""Work spread over the machine's cores, with results that do not depend on their number.

Callers cut their work into tasks without asking how many threads there are, and results come back
in the order of the tasks: sums over them have the same bits on one core and on sixty-four.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_THREADS = 8
"""A server has more to do than to aggregate, and memory is busy with fewer."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Return on how many threads work is spread at most."""
    return min(MOST_THREADS, cores())


def spread(
    work: Callable[[Task], Result], tasks: Sequence[Task], most: int = MOST_THREADS
) -> Iterator[Result]:
    """Yield ``work(task)`` for each task, in their order, worked out on at most so many threads.

    Worth it for tasks of a millisecond and more that let go of the interpreter. A pool is made
    for each call: it outlives no fork, and no thread waits between rounds.
    """
    count = min(threads(), len(tasks), most)
    if count <= 1:
        yield from map(work, tasks)
        return
    with ThreadPoolExecutor(count, "flwr-krum") as pool:
        yield from pool.map(work, tasks)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread per caller: its own spin on a machine that clients share.

    Within itself it does nothing: to ask BLAS takes longer than what a small round has for it.
    """
    if getattr(_here, "is_held", False):
        yield
        return
    _here.is_held = True
    try:
        with _threadpools().limit(limits=1, user_api="blas"):
            yield
    finally:
        _here.is_held = False


@cache
def blas_is_one_of(*architectures: str) -> bool:
    """Say whether NumPy's BLAS runs kernels for one of these processors, as it calls them."""
    return any(found.get("architecture") in architectures for found in _threadpools().info())


_here = threading.local()


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()
