import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.run.config import RunConfig
from tests.simulations.processes import running_with


@pytest.fixture
def config(tmp_path):
    """A function that makes a small run config, with keys as on the command line."""

    def make(**overrides):
        keys = {name.replace("_", "-"): value for name, value in overrides.items()}
        base = {"num-server-rounds": 3, "run-dir": str(tmp_path / "run")}
        return RunConfig.from_config({**base, **keys})

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs without other processes, and the folders of those that were made."""
    from simulations.engines.engines import quiet_flower, run

    made = []

    def run_here(configs, engine, processes, observer):
        for folder, config in configs.items():
            made.append(folder)
            with quiet_flower():
                run(config, engine, lambda record, folder=folder: observer(folder, record))

    monkeypatch.setattr("simulations.engines.kept.run_all", run_here)
    return made


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
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in running_with(home):
            _signal(pid, sign)
        deadline = time.monotonic() + 20
        while running_with(home) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert running_with(home) == []


def _signal(pid: int, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Call the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))
