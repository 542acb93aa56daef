import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from simulations.engines.engines import quiet_flower, run
from simulations.engines.parallel import run_all
from simulations.run.history import read_history
from tests.simulations.processes import until

PROBLEMS = {
    "spam": {"attack": "gaussian", "f": 3, "num_clients": 10, "num_server_rounds": 12},
    "other seed": {"attack": "gaussian", "f": 3, "num_clients": 10, "num_server_rounds": 12,
                   "seed": 1},
    "mnist": {"task": "mnist", "attack": "omniscient", "omniscient_examples": 64, "f": 2,
              "num_clients": 7, "num_server_rounds": 3},
}  # fmt: skip


def test_a_run_in_parallel_gives_the_bytes_of_one_alone(config, tmp_path):
    def places(name):
        return {
            label: config(run_dir=str(tmp_path / name / label), **options)
            for label, options in PROBLEMS.items()
        }

    seen = []
    run_all(
        places("side by side"),
        processes=2,
        observer=lambda label, record: seen.append((label, record.round)),
    )
    with quiet_flower():
        for made in places("alone").values():
            run(made, "fast")
    for label in PROBLEMS:
        for file in ("model.npz", "history.jsonl"):
            assert (tmp_path / "side by side" / label / file).read_bytes() == (
                tmp_path / "alone" / label / file
            ).read_bytes()
        # Every run is followed, in order, to its end.
        rounds = [t for told, t in seen if told == label]
        assert rounds == sorted(set(rounds))
        assert rounds[-1] == PROBLEMS[label]["num_server_rounds"]


def test_a_run_that_fails_ends_the_others_and_says_why(config, tmp_path):
    folder = tmp_path / "finished"
    finished = config(run_dir=str(folder), num_server_rounds=1)
    run(finished)
    again = config(run_dir=str(folder), num_server_rounds=1, resume=True)
    later = config(run_dir=str(tmp_path / "later"))
    later_still = config(run_dir=str(tmp_path / "later still"))
    runs = {"again": again, "later": later, "later still": later_still}
    with pytest.raises(ValueError, match="nothing is left to do"):
        run_all(runs, processes=1)
    with pytest.raises(FileNotFoundError):
        read_history(Path(later_still.run_dir))


def test_two_runs_in_one_folder_are_refused(config):
    with pytest.raises(ValueError, match="belongs to several runs"):
        run_all({"a": config(), "b": config(seed=1)})


def test_no_process_is_too_few(config):
    with pytest.raises(ValueError, match="processes is 0, expected >= 1"):
        run_all({"a": config()}, processes=0)


def test_no_runs_are_over_at_once():
    run_all({})


LONG = """
import sys
from simulations.engines.parallel import run_all
from simulations.run.config import RunConfig

if __name__ == "__main__":
    options = {"num-clients": 4, "f": 0, "num-server-rounds": 1_000_000, "run-dir": sys.argv[1]}
    run_all({"long": RunConfig.from_config(options)})
"""


@pytest.fixture
def long_run(tmp_path):
    """A program that has begun a long run, and the processes that it made for it."""
    program, folder = tmp_path / "long.py", tmp_path / "run"
    program.write_text(LONG)
    parent = subprocess.Popen(
        [sys.executable, program, folder], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until((folder / "history.jsonl").exists)
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert workers
        yield parent, workers
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.slow  # a program of its own starts processes of its own
def test_workers_end_with_a_parent_that_is_killed(long_run):
    parent, workers = long_run
    os.kill(parent.pid, signal.SIGKILL)
    psutil.wait_procs(workers, timeout=20.0)
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow  # a program of its own starts processes of its own
def test_ctrl_c_ends_all_in_the_middle_of_a_run_and_only_the_parent_speaks_of_it(long_run):
    parent, workers = long_run
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal sends it: to every process
    _, said = parent.communicate(timeout=20.0)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert said.count("Traceback") == 1
    psutil.wait_procs(workers, timeout=20.0)
    assert not any(worker.is_running() for worker in workers)
