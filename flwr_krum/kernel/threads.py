"""Work spread over the machine's cores, with results that do not depend on their number.

Callers cut their work into tasks without asking how many threads there are, and results come back
in the order of the tasks: sums over them have the same bits on one core and on sixty-four.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

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


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep BLAS to one thread per caller: its own spin on a machine that clients share."""
    limits: AbstractContextManager[Any] = _threadpools().limit(limits=1, user_api="blas")
    return limits


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()
