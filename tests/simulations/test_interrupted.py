"""Ctrl-C in the middle of the work of a program."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.simulations.processes import until

BEGINS = """
import runpy, sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "PACKAGE.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
runpy.run_module("PACKAGE", run_name="__main__")
"""

HEARS = """
import runpy, signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs in the background
runpy.run_module("simulations", run_name="__main__", alter_sys=True)
"""


HELD = """
import runpy, signal, threading
from typer.core import TyperGroup
import simulations.show.sentences

def held(self, ctx):
    ctx.invoked_subcommand = "run"
    threading.Thread(target=threading.Event().wait).start()
    print("begun", flush=True)
    try:
        threading.Event().wait()
    finally:
        HOW

signal.signal(signal.SIGINT, signal.default_int_handler)
simulations.show.sentences.PATIENCE = 1.0
TyperGroup.invoke = held
runpy.run_module("simulations", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("how", ["pass", "threading.Event().wait()"], ids=["thread", "cleanup"])
def test_a_program_ends_although_a_thread_or_a_cleanup_of_others_never_does(how):
    program = subprocess.Popen(
        [sys.executable, "-c", HELD.replace("HOW", how), "run"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        program.send_signal(signal.SIGINT)
        said, _ = program.communicate(timeout=60.0)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 130
    assert said.count("interrupted: the same command with --resume goes on") == 1


@pytest.mark.parametrize("package", ["simulations", "benchmarks"])
def test_while_a_program_loads_it_ends_with_a_sentence(package):
    program = [sys.executable, "-c", BEGINS.replace("PACKAGE", package)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was begun\n")


@pytest.mark.parametrize(
    ("command", "begun", "says"),
    [
        pytest.param(
            "run --rounds 1000000 --run-dir work", "work/history.jsonl", "with --resume goes on",
            marks=pytest.mark.slow,  # a program of its own loads all
        ),
        pytest.param(
            "arena --rules krum --attacks none --rounds 1000000 --out work",
            "work/runs/*/history.jsonl", "the same command goes on", marks=pytest.mark.slow,
        ),
        pytest.param(
            "run --engine ray -n 3 --rounds 100000 --run-dir work", "work/history.jsonl",
            "with --resume goes on", marks=[pytest.mark.flower, pytest.mark.slow],
        ),
    ],
)  # fmt: skip
def test_a_command_ends_with_how_to_go_on_and_leaves_no_process(tmp_path, command, begun, says):
    program = subprocess.Popen(
        [sys.executable, "-c", HEARS, *command.split()],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        # The first lines are of the model before any round, and of the first round.
        until(lambda: any(len(p.read_text().splitlines()) > 1 for p in tmp_path.glob(begun)))
        others = psutil.Process(program.pid).children(recursive=True)
        os.killpg(program.pid, signal.SIGINT)  # as a terminal sends it: to every process
        said, _ = program.communicate(timeout=60.0)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 130
    assert "Traceback" not in said
    assert says in " ".join(said.split())
    _, left = psutil.wait_procs(others, timeout=60.0)
    assert not left
