import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.run.config import RunConfig


@pytest.fixture
def config(tmp_path):
    """A function that makes a small run config, with keys as on the command line."""

    def make(**overrides):
        keys = {name.replace("_", "-"): value for name, value in overrides.items()}
        base = {"num-server-rounds": 3, "run-dir": str(tmp_path / "run")}
        return RunConfig.from_config({**base, **keys})

    return make


@pytest.fixture
def flower_home(tmp_path) -> Iterator[dict[str, str]]:
    """An environment with a Flower home and port of its own.

    Flower's local SuperLink outlives the command that starts it; whatever carries this home in
    its environment is ended by process id, and nothing of it may be left.
    """
    home = tmp_path / "flower"
    env = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(_free_port()),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
    yield env
    marker = f"FLWR_HOME={home}".encode()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in _processes_with(marker):
            _signal(pid, sign)
        deadline = time.monotonic() + 20
        while _processes_with(marker) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert _processes_with(marker) == []


def _signal(pid: int, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def _processes_with(marker: bytes) -> list[int]:
    """Ids of the running processes whose environment holds the marker."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and marker in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
