"""Processes of a federation: starting them so that they can be found again, and ending them all.

Flower's processes start others, partly in sessions of their own, so neither a process group nor
the tree of parents reaches all of them. But every one inherits the environment: whatever carries
the federation's own ``FLWR_HOME`` belongs to it.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
"""The folder from which ``python -m simulations`` works."""

MARK = "FLWR_HOME"
"""The environment variable whose value tells one federation's processes from all others."""

LOGS = "logs"
"""The one entry of a federation's folder that outlives it."""

GRACE = 3.0
"""Seconds that a process gets to leave in order."""

HIGHEST_PORT = 32_000
"""Ports are taken from below those that systems hand out for outgoing connections."""


def start(
    command: Sequence[str | Path], env: Mapping[str, str], log: Path, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a program: one that lies beside this interpreter, as Flower's do, or at a path.

    It gets a session of its own: a Ctrl-C is for the command that started it, which then ends
    everything in order.
    """
    program, *arguments = command
    with log.open("ab") as output:
        return subprocess.Popen(
            [Path(sys.executable).parent / program, *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
        )


def members(home: Path) -> list[psutil.Process]:
    """Return the running processes of the federation with that home."""
    return [process for process in psutil.process_iter() if _carries(process, home)]


def end_all(home: Path, grace: float = GRACE) -> None:
    """End every process of the federation with that home, and whatever they start meanwhile."""
    for process in (leaving := members(home)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(leaving, timeout=grace)
    while remaining := members(home):
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(remaining, timeout=1.0)


@contextlib.contextmanager
def guarded(home: Path, *folders: Path) -> Iterator[None]:
    """Have a federation's processes ended and its folders cleared, also if this one is killed.

    A guard, a small process outside of the federation, waits for the end of a pipe that only this
    process holds open; the kernel closes it however this process goes.

    Parameters
    ----------
    home : Path
        That of the processes.
    *folders : Path
        What `clear` is for, when none of them runs any more.
    """
    guard = subprocess.Popen(
        [sys.executable, "-m", "simulations.real.guard", str(home), *map(str, folders)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd=ROOT,
    )
    try:
        yield
    finally:
        try:
            end_all(home)
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()
            for folder in folders:  # should somebody have ended the guard
                clear(folder)


def clear(folder: Path) -> None:
    """Remove what is in a folder but its logs, as far as can be; and the folder, if that is all."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                if entry.name != LOGS:
                    shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()
        folder.rmdir()


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens now."""
    found: dict[int, socket.socket] = {}
    try:
        while len(found) < count:
            probe = socket.socket()
            port = random.randrange(HIGHEST_PORT - 10_000, HIGHEST_PORT)
            try:
                probe.bind(("127.0.0.1", port))
                found[port] = probe
            except OSError:
                probe.close()
    finally:
        for probe in found.values():
            probe.close()
    return list(found)


def _carries(process: psutil.Process, home: Path) -> bool:
    try:
        belongs: bool = process.environ().get(MARK) == str(home)
        return belongs
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or somebody else's
