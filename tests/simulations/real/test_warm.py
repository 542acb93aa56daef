import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from simulations.real import warm
from tests.simulations.processes import until

pytestmark = pytest.mark.skipif(not warm.SUPPORTED, reason="doors are for Linux")

SERVER = """
import os, signal, sys, time
from pathlib import Path
from simulations.real import warm

def superexec():
    print(sys.argv[1:], os.environ["ANSWER"], os.getcwd())
    print("complaint", file=sys.stderr)
    sys.exit(7)

def serverapp():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Path(sys.argv[1]).write_text("ready")
    time.sleep(60)

def clientapp():
    raise ValueError("nobody catches this")

warm._load = lambda: dict(zip(warm.PROGRAMS, (superexec, serverapp, clientapp)))
warm.serve(Path(sys.argv[1]))
"""


@pytest.fixture
def doors(tmp_path):
    """Doors behind which stand three small programs."""
    with tempfile.TemporaryDirectory() as short:
        path = Path(short, "socket")
        server = subprocess.Popen([sys.executable, "-c", SERVER, path])
        warm.write_doors(tmp_path / "doors", path)
        yield tmp_path / "doors"
        server.kill()
        server.wait()


def test_a_door_hands_on_arguments_environment_folder_and_files_and_the_exit_code(doors, tmp_path):
    done = subprocess.run(
        [doors / "flower-superexec", "--port", "1 2"],
        env={**os.environ, "ANSWER": "42"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"['--port', '1 2'] 42 {tmp_path}\n"
    assert done.stderr == "complaint\n"
    assert done.returncode == 7


def test_a_signal_to_the_door_reaches_the_program(doors, tmp_path):
    ready = tmp_path / "ready"
    door = subprocess.Popen([doors / "flwr-serverapp", ready])
    until(ready.exists, 20.0)
    door.send_signal(signal.SIGTERM)
    assert door.wait(10.0) == 0


def test_a_program_that_breaks_says_so_and_leaves_the_others_their_doors(doors, tmp_path):
    for _ in range(2):
        done = subprocess.run(
            [doors / "flwr-clientapp"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "ValueError: nobody catches this" in done.stderr


def test_a_door_with_nobody_behind_it_starts_the_program_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "PATIENCE", 0.0)
    warm.write_doors(tmp_path / "doors", tmp_path / "nobody", ["python"])
    command = [tmp_path / "doors/python", "-c", "import sys; print(6 * 7); sys.exit(3)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "42\n"
    assert done.returncode == 3


def test_every_program_has_a_door_that_is_the_owners_alone(doors):
    assert {door.name for door in doors.iterdir()} == set(warm.PROGRAMS)
    assert {door.stat().st_mode & 0o777 for door in doors.iterdir()} == {0o700}


def test_the_programs_are_flowers_own():
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert set(warm.PROGRAMS) <= scripts
