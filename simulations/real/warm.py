"""``python -m simulations.real.warm SOCKET``: starts Flower's programs without their loading time.

Flower starts a fresh interpreter for every message to a ClientApp, which loads Flower and torch for
seconds of a core. A device has its own cores; here all nodes share those of one machine, and most
of a run would be spent on loading. So the programs that Flower itself starts are found in the
federation's path as *doors*: small scripts that have this process, which has loaded everything
but the app, fork and become the program, with the door's arguments, environment, folder and files.
What runs is the same, one process each. A door that finds nobody behind it starts the program as
Flower would have.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

PROGRAMS = ("flower-superexec", "flwr-serverapp", "flwr-clientapp")
"""What SuperLink, SuperNode and SuperExec start by name."""

SUPPORTED = sys.platform == "linux"
"""Elsewhere a fork of a process that has loaded so much is not safe."""

PATIENCE = 10.0
"""Seconds for which a door waits for somebody to open."""

_LONGEST_REQUEST = 1 << 20

_DOOR = """\
#!{python} -IS
import json, os, signal, socket, sys, time

def knock():
    deadline = time.monotonic() + {patience}
    while True:
        try:
            inside = socket.socket(socket.AF_UNIX)
            inside.connect({socket!r})
            return inside
        except OSError:
            if time.monotonic() > deadline:
                os.execv({program!r}, [{program!r}, *sys.argv[1:]])
            time.sleep(0.05)

inside = knock()
request = dict(argv=sys.argv, env=dict(os.environ), cwd=os.getcwd())
socket.send_fds(inside, [json.dumps(request).encode()], [0, 1, 2])
inside.shutdown(socket.SHUT_WR)
answer = inside.makefile()
process = int(answer.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(process, number))
sys.exit(int(answer.readline() or 1))
"""


def write_doors(folder: Path, path: Path, programs: Sequence[str] = PROGRAMS) -> None:
    """Write a door for each program into a folder, to be put first in the path.

    Parameters
    ----------
    folder : Path
        Is made.
    path : Path
        The socket on which `serve` listens.
    programs : sequence of str
        Of `PROGRAMS`; who has no door is started as Flower does.
    """
    folder.mkdir()
    for program in programs:
        door = folder / program
        behind = Path(sys.executable).with_name(program)
        text = _DOOR.format(
            python=sys.executable, socket=str(path), program=str(behind), patience=PATIENCE
        )
        door.write_text(text)
        door.chmod(0o700)


def serve(path: Path) -> NoReturn:
    """Fork for whoever comes through a door, for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1024)
        programs = _load()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
        while True:
            door, _ = listener.accept()
            with door:
                request, files = _receive(door)
                process = os.fork()
                if process == 0:
                    listener.close()
                    _become(programs, request, files, door)
                for file in files:
                    os.close(file)
                with contextlib.suppress(OSError):
                    door.sendall(f"{process}\n".encode())


def _load() -> dict[str, Callable[[], object]]:
    """Import what the programs import, the app's own packages left out; return their functions."""
    scripts = importlib.metadata.entry_points(group="console_scripts")
    programs = {script.name: script.load() for script in scripts if script.name in PROGRAMS}
    importlib.import_module("torch")
    return programs


def _receive(door: socket.socket) -> tuple[dict[str, Any], list[int]]:
    text, files, _, _ = socket.recv_fds(door, _LONGEST_REQUEST, 3)
    while part := door.recv(_LONGEST_REQUEST):
        text += part
    request: dict[str, Any] = json.loads(text)
    return request, files


def _become(
    programs: dict[str, Callable[[], object]],
    request: dict[str, Any],
    files: list[int],
    door: socket.socket,
) -> NoReturn:
    """Be the program, and tell its door how it ended."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        random.seed()
        name = Path(request["argv"][0]).name
        Path("/proc/self/comm").write_text(name)
        sys.argv = request["argv"]
        programs[name]()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(OSError):
            door.sendall(f"{code}\n".encode())
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
