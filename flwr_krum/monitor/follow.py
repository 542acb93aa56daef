"""The lines of a file as they come, whatever becomes of the file meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

T = TypeVar("T")

MOST = 500
"""Lines that are read at a time."""

_Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class News(Generic[T]):
    """What is new in a file.

    Attributes
    ----------
    values : list
        What its new whole lines say, in their order.
    is_another : bool
        Whether the file was replaced, or its lines were: what came before does not count.
    damaged : tuple of int
        The numbers of new lines that say nothing.
    problem : str
        Why nothing can be read; empty if it can.
    """

    values: list[T]
    is_another: bool = False
    damaged: tuple[int, ...] = ()
    problem: str = ""


class Follower(Generic[T]):
    """Reads a file that another process writes, from its beginning and on.

    A last line without an end is being written, and is left for later. A file that is replaced or
    cut, or of which the lines that were read are others now, as when a run goes on from an earlier
    round, is read anew.

    Parameters
    ----------
    path : Path
        It need not be there yet.
    parse : callable, bytes -> value
        Reads a line; raises ValueError, KeyError, TypeError, AttributeError, ArithmeticError or
        RecursionError where it is damaged.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self._path = path
        self._parse = parse
        self._mark: _Mark | None = None
        self._forget()

    def _forget(self) -> None:
        self._end, self._lines, self._last = 0, 0, b""

    def news(self) -> News[T]:
        """Return what is new, of `MOST` lines at most; what cannot be read is told, not raised."""
        try:
            status = self._path.stat()
            mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if mark == self._mark:
                return News([])
            if not stat.S_ISREG(status.st_mode):  # a pipe would never end
                return News([], problem=f"{self._path} is no file")
            with self._path.open("rb") as file:
                is_another = self._is_another(file)
                news, is_all = self._read(file, is_another)
        except FileNotFoundError:
            return News([], problem=f"{self._path} is not there yet")
        except OSError as error:
            return News([], problem=f"{self._path} cannot be read: {error.strerror or error}")
        self._mark = mark if is_all else None
        return news

    def _is_another(self, file: BinaryIO) -> bool:
        """Say whether the last line that was read is no longer where it was; start anew if so."""
        file.seek(self._end - len(self._last))
        if file.read(len(self._last)) == self._last:
            return False
        self._forget()
        return True

    def _read(self, file: BinaryIO, is_another: bool) -> tuple[News[T], bool]:
        file.seek(self._end, os.SEEK_SET)
        values: list[T] = []
        damaged: list[int] = []
        for _ in range(MOST):
            if not (line := file.readline()).endswith(b"\n"):
                return News(values, is_another, tuple(damaged)), True
            self._end += len(line)
            self._lines += 1
            self._last = line
            try:
                if line.strip():
                    values.append(self._parse(line))
            except (
                *(ValueError, KeyError, TypeError, AttributeError),
                *(ArithmeticError, RecursionError),
            ):
                damaged.append(self._lines)
        return News(values, is_another, tuple(damaged)), False
