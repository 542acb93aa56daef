import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from simulations.real.processes import end_all, free_ports, guarded, members, start
from tests.simulations.processes import running_with, until

SLEEPER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], start_new_session=True)
{SLEEPER}
"""


@pytest.fixture
def home(tmp_path):
    """A home whose processes are ended whatever the test finds."""
    yield tmp_path / "home"
    for pid in running_with(tmp_path / "home"):
        os.kill(pid, signal.SIGKILL)


def begin(home, code, log):
    return start(["python", "-c", code], {**os.environ, "FLWR_HOME": str(home)}, log)


def test_all_of_a_home_are_ended_also_the_stubborn_and_those_in_sessions_of_their_own(
    home, tmp_path
):
    for code in (SLEEPER, STUBBORN, PARENT):
        begin(home, code, tmp_path / "log")
    other = begin(tmp_path / "other", SLEEPER, tmp_path / "log")
    until(lambda: len(running_with(home)) == 4)
    assert {process.pid for process in members(home)} == set(running_with(home))
    time.sleep(0.3)  # for the stubborn one to stop its ears
    end_all(home, grace=0.5)
    assert running_with(home) == []
    assert other.poll() is None
    other.kill()
    other.wait()


def test_the_guard_ends_all_when_the_block_ends(home, tmp_path):
    with guarded(home):
        begin(home, PARENT, tmp_path / "log")
        until(lambda: len(running_with(home)) == 2)
    assert running_with(home) == []


@pytest.fixture
def folders(tmp_path):
    """A federation's folder with keys and logs, and one for a socket."""
    folder, short = tmp_path / "federation", tmp_path / "short"
    for name in ("keys", "certificates", "logs"):
        (folder / name).mkdir(parents=True)
    for name in ("keys/node-0", "certificates/server.key", "run.toml", "logs/node-0.log"):
        (folder / name).write_text("secret")
    (folder / "link").symlink_to(folder / "logs")
    short.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "s"))
    return folder, short


def assert_only_logs_are_left(folder, short):
    assert [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] == [
        "logs",
        "logs/node-0.log",
    ]
    assert not short.exists()


def test_the_folders_are_cleared_when_the_block_ends_and_their_logs_are_kept(home, folders):
    with guarded(home, *folders):
        pass
    assert_only_logs_are_left(*folders)


def test_the_folders_are_cleared_also_if_the_guard_was_killed(home, folders):
    with guarded(home, *folders):
        children = psutil.Process().children()  # other tests may have left some of their own
        alive = (child for child in children if child.status() != psutil.STATUS_ZOMBIE)
        (guard,) = (child for child in alive if "simulations.real.guard" in child.cmdline())
        guard.kill()
    assert_only_logs_are_left(*folders)


def test_the_guard_ends_all_and_clears_the_folders_when_its_owner_is_killed(
    home, folders, tmp_path
):
    owner = f"""
import os, sys, time
from pathlib import Path
from simulations.real.processes import guarded, start
home = Path({str(home)!r})
with guarded(home, *map(Path, {list(map(str, folders))!r})):
    env = dict(os.environ, FLWR_HOME=str(home))
    start(["python", "-c", {PARENT!r}], env, Path({str(tmp_path / "log")!r}))
    time.sleep(600)
"""
    env = {key: value for key, value in os.environ.items() if key != "FLWR_HOME"}
    process = subprocess.Popen([sys.executable, "-c", owner], env=env)
    until(lambda: len(running_with(home)) == 2)
    children = psutil.Process(process.pid).children()
    (guard,) = (child for child in children if child.pid not in running_with(home))
    process.kill()
    process.wait()
    until(lambda: running_with(home) == [], 20.0)
    guard.wait(20.0)
    assert_only_logs_are_left(*folders)


def test_what_a_program_prints_is_in_its_log(home, tmp_path):
    begin(home, "import sys; print('out'); print('err', file=sys.stderr)", tmp_path / "log").wait()
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


def test_free_ports_are_distinct_and_can_be_listened_on():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            listener.listen()


def test_a_port_that_is_taken_is_not_offered(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        offers = iter([first, first, 31_999])
        monkeypatch.setattr("random.randrange", lambda *_: next(offers))
        assert free_ports(1) == [31_999]
