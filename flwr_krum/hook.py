"""A function of the operator's own, told of what happens without anybody waiting for it."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from flwr_krum.boundary.replies import in_a_sentence

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that one call may take before what comes meanwhile is dropped, and that are waited at
the end of the program for calls that are due."""

WAITING = 1000
"""Values that may wait for a call that takes its time."""


class Hook(Generic[T]):
    """Call a function with one value after the other, in a thread that holds nobody up.

    What it raises becomes a sentence. While it hangs, what comes is dropped with a sentence; when
    it is back, it is told what comes then.

    Parameters
    ----------
    call : callable, value -> anything
    name : str
        What it is, for the sentences.
    say : callable, text -> None
        Takes the sentences, from whichever thread.
    patience : float (default: PATIENCE)
    """

    def __init__(
        self,
        call: Callable[[T], object],
        name: str,
        say: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self._call, self._name, self._say, self._patience = call, name, say, patience
        self._waiting: queue.Queue[T] | None = None
        self._since: float | None = None

    def tell(self, value: T) -> None:
        """Have the function called with a value, soon; return at once, whatever becomes of it."""
        if self._waiting is None:  # the first, also in a process that this one was copied to
            self._waiting = queue.Queue(WAITING)
            threading.Thread(target=self._work, args=(self._waiting,), daemon=True).start()
            atexit.register(self.finish)
        since = self._since
        if since is not None and (busy := time.monotonic() - since) > self._patience:
            self._say(f"{self._name} has been busy for {busy:.0f} s: it is not told of this")
            return
        try:
            self._waiting.put_nowait(value)
        except queue.Full:
            self._say(f"{self._name} is {WAITING} calls behind: it is not told of this")

    def finish(self) -> bool:
        """Wait for the calls that are due, as long as patience lasts; say whether all are done."""
        end = time.monotonic() + self._patience
        while (waiting := self._waiting) is not None and waiting.unfinished_tasks:
            if time.monotonic() > end:
                self._say(f"{self._name} is not told of {waiting.unfinished_tasks} more, or hangs")
                return False
            time.sleep(0.01)
        return True

    def _work(self, waiting: queue.Queue[T]) -> None:
        while True:
            value = waiting.get()
            self._since = time.monotonic()
            try:
                self._call(value)
            except BaseException as error:  # also SystemExit: it is the operator's, and not ours
                self._say(f"{self._name} raises {in_a_sentence(error)}")
            finally:
                self._since = None
                waiting.task_done()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_waiting": None, "_since": None}
