"""How long each stage of a round takes, told by the stages themselves.

A stage names itself with ``with stage("geometry"):`` wherever it is in the call tree; the round
that runs in this context collects the seconds. Outside a round a stage costs next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal[
    "decode",
    "check",
    "metrics",
    "geometry",
    "rule",
    "guarantee",
    "combine",
    "encode",
    "certificate",
]
"""The stages of a round, in order."""


class Clock:
    """Seconds per stage; a stage's own time excludes the stages within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within: list[float] = [0.0]

    def enter(self) -> float:
        """Begin a stage."""
        self._within.append(0.0)
        return time.perf_counter()

    def leave(self, name: Stage, began: float) -> None:
        """End a stage that began then."""
        elapsed = time.perf_counter() - began
        own = elapsed - self._within.pop()
        self._within[-1] += elapsed
        self.seconds[name] = self.seconds.get(name, 0.0) + own


_current: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def timed() -> Iterator[Clock]:
    """Collect the seconds of the stages that run in this context."""
    clock = Clock()
    token = _current.set(clock)
    try:
        yield clock
    finally:
        _current.reset(token)


class stage:  # noqa: N801 (used as a function; a generator would take longer than some stages)
    """Let what runs inside count as the named stage."""

    __slots__ = ("_began", "_clock", "_name")

    def __init__(self, name: Stage) -> None:
        self._name = name
        self._clock = _current.get()
        self._began = 0.0

    def __enter__(self) -> None:
        if self._clock is not None:
            self._began = self._clock.enter()

    def __exit__(self, *_: object) -> None:
        if self._clock is not None:
            self._clock.leave(self._name, self._began)
