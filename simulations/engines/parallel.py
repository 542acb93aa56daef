"""Several runs side by side, each in a process of its own with one thread.

A run's numbers do not depend on what runs beside it: every draw is named by its seed, and sums are
formed by one thread in one order.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.queues import Queue
from typing import TypeAlias

import torch
from threadpoolctl import threadpool_limits

from flwr_krum.kernel.threads import cores
from simulations.engines.engines import quiet_flower, run
from simulations.run.config import RunConfig
from simulations.run.history import RoundRecord

RunObserver: TypeAlias = Callable[[str, RoundRecord], None]
News: TypeAlias = "Queue[tuple[str, RoundRecord]]"

INTERVAL = 0.2
"""Seconds between two rounds of a run that are told: news cost more than a small round."""


def _ignore(label: str, record: RoundRecord) -> None:
    """Watch nothing."""


def run_all(
    configs: Mapping[str, RunConfig],
    engine: str = "fast",
    processes: int | None = None,
    observer: RunObserver = _ignore,
) -> None:
    """Run several federations; each one's history and model are in its run folder afterwards.

    Parameters
    ----------
    configs : mapping of label to RunConfig
        Started in this order.
    engine : str
        As for `simulations.engines.engines.run`.
    processes : int, optional
        How many run at once; by default one per core.
    observer : callable, (label, RoundRecord) -> None, optional
        Called in the calling thread, a few times a second for each run and after its last round.

    Raises
    ------
    ValueError
        If two runs share a folder, or ``processes`` is not at least 1.
    Exception
        What the first run that fails raises; those that have not begun then never do.
    """
    shared = [folder for folder, k in Counter(c.run_dir for c in configs.values()).items() if k > 1]
    if shared:
        raise ValueError(f"run-dir {shared[0]!r} belongs to several runs, expected one each")
    if processes is not None and processes < 1:
        raise ValueError(f"processes is {processes}, expected >= 1")
    workers = max(1, min(len(configs), processes or cores()))
    # Fresh processes: torch's and BLAS's threads do not survive a fork.
    context = get_context("spawn")
    news: News = context.Queue()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(news,))
    with pool, _ended_at_once():
        waiting = iter(configs.items())
        going: dict[Future[RoundRecord], str] = {}
        while True:
            # No more than can run: what the pool holds cannot be called back when a run fails.
            for label, config in islice(waiting, workers - len(going)):
                with _deaf_to_ctrl_c():
                    future = pool.submit(_run_one, label, config, engine)
                going[future] = label
            if not going:
                return
            over, _ = wait(going, INTERVAL, FIRST_COMPLETED)
            for label, record in _told(news):
                if label in going.values():  # what is late would turn a finished run back
                    observer(label, record)
            for run_over in over:
                observer(going.pop(run_over), run_over.result())


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Let processes that begin here hear no Ctrl-C: whoever made them does, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """End the processes that began in here at Ctrl-C, in the middle of their runs.

    What a run has on the disk is whole at any moment.
    """
    others = set(active_children())
    try:
        yield
    except KeyboardInterrupt:
        for process in set(active_children()) - others:
            process.terminate()
        raise


def _told(news: News) -> Iterator[tuple[str, RoundRecord]]:
    with suppress(queue.Empty):
        while True:
            yield news.get_nowait()


_news: News | None = None


def _begin(news: News) -> None:
    """Prepare a process for its runs."""
    global _news
    _news = news
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)
    threadpool_limits(1)


def _end_with_the_parent() -> None:
    """End this process when the one that made it is gone, also by kill -9: nobody reads its runs.

    What a run has on the disk is whole at any moment.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_one(label: str, config: RunConfig, engine: str) -> RoundRecord:
    """Make a run, tell of it, and return its last round."""
    told = -INTERVAL
    last: RoundRecord | None = None

    def observer(record: RoundRecord) -> None:
        nonlocal told, last
        last = record
        now = time.monotonic()
        if now - told >= INTERVAL and record.round < config.num_server_rounds:
            told = now
            assert _news is not None
            _news.put((label, record))

    with quiet_flower():
        run(config, engine, observer)
    assert last is not None
    return last
