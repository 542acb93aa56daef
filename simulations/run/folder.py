"""The folder of a run: one run at a time writes it, and no file in it is ever half of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flwr_krum.lines import writing
from flwr_krum.lock import Lock

LOCK_FILE = "run.lock"


@contextmanager
def alone_in(folder: Path, lock_file: str = LOCK_FILE) -> Iterator[None]:
    """Keep a folder, which is made, to one run at a time.

    Raises
    ------
    LockedError
        If another one has it; the message says which process that is.
    FileError
        If nothing can be written there.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / lock_file, str(folder))
    with lock:
        yield


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step: a crash or a full disk leaves the old one.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    beside = path.with_name(f"new-{path.name}")
    with writing(path):
        try:
            beside.write_bytes(content)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
