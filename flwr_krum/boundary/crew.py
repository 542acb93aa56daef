"""Threads for jobs that may never end, so that each holds up nothing but itself."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeAlias

IDLE = 10.0
"""Seconds for which a thread waits for another job."""

Job: TypeAlias = Callable[[], None]


class Crew:
    """Daemon threads for jobs that may be held for ever; who is done takes the next job."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Job]] = []

    def do(self, job: Job) -> None:
        """Have a job done by a thread that does nothing else."""
        try:
            desk = self._idle.pop()
        except IndexError:
            desk = SimpleQueue()
            Thread(target=_work, args=(desk, self._idle), daemon=True).start()
        desk.put(job)


def _work(desk: SimpleQueue[Job], idle: list[SimpleQueue[Job]]) -> None:
    while True:
        try:
            job = desk.get(timeout=IDLE)
        except Empty:
            try:
                idle.remove(desk)
            except ValueError:  # it was just taken: the job is on its way
                continue
            return
        job()
        del job  # and the replies that it holds
        idle.append(desk)
