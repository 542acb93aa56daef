"""Lines at the end of a file: each is there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class FileError(ValueError):
    """A file cannot be written, or does not hold what it should; the message names it."""


class Line(NamedTuple, Generic[T]):
    """What a line of a file says, and where in the file it ends."""

    value: T
    end: int


class LineWriter:
    """Appends lines to a file that nobody else writes.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made.
    end : int (default: 0)
        Bytes of the file that are kept. What lies behind them is cut off with the first line.
    sync : bool (default: True)
        Whether a line is on the disk when it is written, or only on its way there: then it
        outlives this process, however that ends, but not the machine.

    Raises
    ------
    FileError
        If the file cannot be made or written, or is none: a pipe, a link, a folder.
    """

    def __init__(self, path: Path, end: int = 0, sync: bool = True) -> None:
        self._name = path
        self._path = path.absolute()
        self._end = end
        self._sync = sync
        check_is_file(path)
        with writing(path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as file:
                self._size = os.fstat(file).st_size
                os.lseek(file, max(0, end - 1), os.SEEK_SET)
                # The last line may lack its end, and only that.
                self._before = b"" if end == 0 or os.read(file, 1) == b"\n" else b"\n"

    def append(self, line: bytes) -> None:
        """Write one line; if that fails, the file ends with the last whole one.

        Raises
        ------
        FileError
            If it cannot be written, or somebody else has written to the file.
        """
        with writing(self._name), self._open() as file:
            if (size := os.fstat(file).st_size) != self._size:
                raise FileError(
                    f"{self._name} has {size} bytes and had {self._size}: "
                    "somebody else writes it as well"
                )
            try:
                if size != self._end:
                    os.ftruncate(file, self._end)
                os.lseek(file, 0, os.SEEK_END)
                written = _write_all(file, self._before + line + b"\n")
                if self._sync:
                    os.fsync(file)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, self._end)
                self._size = os.fstat(file).st_size
                raise
            self._end += written
            self._size = self._end
            self._before = b""

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            yield file
        finally:
            os.close(file)


def read_lines(
    path: Path, parse: Callable[[bytes], T], what: str, beginning: bytes
) -> list[Line[T]]:
    """Read the lines of a file; a last one that a crash tore is left out.

    Parameters
    ----------
    path : Path
    parse : callable, bytes -> value
        Reads a line; raises ValueError, KeyError or TypeError where it is damaged.
    what : str
        What a line is, for the error.
    beginning : bytes
        How every line begins.

    Raises
    ------
    FileError
        If a line is damaged, or the path is no file.
    FileNotFoundError
        If there is nothing.
    """
    found: list[Line[T]] = []
    end = 0
    *whole, torn = _content(path).split(b"\n")
    for number, text in enumerate([*whole, torn], 1):
        end += len(text) + (number <= len(whole))
        try:
            if text:
                found.append(Line(parse(text), end))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # Whatever follows the last line break was being written when the lights went out, if
            # it begins as our lines do; another file must not be taken for ours.
            ours = text.startswith(beginning) or beginning.startswith(text)
            if number <= len(whole) or not ours:
                raise FileError(f"{path}, line {number}: not {what}") from error
    return found


def check_is_next(path: Path, server_round: int, last: int) -> None:
    """Raise FileError if a round is not later than the last one that a file has."""
    if server_round <= last:
        raise FileError(
            f"{path}: round {server_round} follows round {last}; a run that goes on counts its "
            f"rounds on: rounds_done={last}"
        )


def check_is_file(path: Path) -> None:
    """Raise FileError unless the path is that of a file, or of nothing."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(mode := path.lstat().st_mode):
            raise FileError(f"{path} is {_kind(mode)}, expected a file")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing a file into a FileError that names it."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode):
            raise FileError(f"{path} is {_kind(mode)}, expected a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _write_all(file: int, data: bytes) -> int:
    """Write all of it: the system may take a part, and say with the next what is wrong."""
    done = 0
    while done < len(data):
        done += os.write(file, data[done:])
    return done
