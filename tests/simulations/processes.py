"""What runs on this machine, seen from outside, and waiting for it."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil


def running_with(home: Path) -> list[int]:
    """Ids of the processes that have a Flower home in their environment, read from the kernel."""
    marker, found = f"FLWR_HOME={home}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and marker in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def listening(pids: list[int] | None = None) -> set[int]:
    """Ports on which somebody listens, or one of the given processes."""
    return {
        connection.laddr.port
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and (pids is None or connection.pid in pids)
    }


def until(condition, timeout=120.0):
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@contextlib.contextmanager
def stopped(process):
    """Have a process hang, and all that it was about to do, for as long as a block runs."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def follow(federation, run_id, timeout=300.0):
    """Return the final status of a run."""
    status = [""]

    def finished():
        status[0] = federation.status(run_id)
        return status[0].startswith("finished")

    until(finished, timeout)
    federation.save_log(run_id)
    return status[0]
