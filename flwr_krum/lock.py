"""A lock file: one process at a time may write something, and others are told which one does.

The kernel ends a lock with the process that holds it: what a dead process leaves behind is a file
that locks nothing. A file system that knows no locks gives none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import weakref
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        os.lseek(file, _FAR, os.SEEK_SET)  # what is locked there cannot be read by others
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_FAR = 1 << 20
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


class LockedError(ValueError):
    """Another process, or another part of this one, holds a lock."""


class Lock(contextlib.AbstractContextManager["Lock"]):
    """A lock, from its making until `release`, or until nobody has it any more.

    Parameters
    ----------
    path : Path
        The lock file: it is made, names the process and the machine, and goes with the lock.
    what : str
        What is locked, for the error.

    Raises
    ------
    LockedError
        If somebody holds it; the message says who.
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path, what: str) -> None:
        file = _locked(path, what)
        # Also at the end of the program, and not in a process that was forked from this one.
        self._release = weakref.finalize(self, _remove, path, file, os.getpid())
        try:
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have it."""
        self._release()

    def __exit__(self, *_: object) -> None:
        self.release()


def _locked(path: Path, what: str) -> int:
    """Return the file, locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                _take(file)
            except OSError as error:
                if error.errno in _HELD:
                    holder = os.read(file, 200).decode(errors="replace").strip()
                    raise LockedError(
                        f"{what} is being written by {holder or 'another process'}: "
                        "wait for it, or choose another"
                    ) from None
            if _is_at(file, path):
                return file
            os.close(file)  # who held it has removed it meanwhile
        except BaseException:
            os.close(file)
            raise


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path, file: int, owner: int) -> None:
    # Before it is unlocked: afterwards it may be another's. Windows removes no open file.
    if os.getpid() == owner and _is_at(file, path):
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(file)
