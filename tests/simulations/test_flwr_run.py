import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations.engines.engines import run

ROOT = Path(__file__).parents[2]


def flwr(env, *arguments):
    """Run Flower's command, which lies beside this interpreter, and return what it prints."""
    bin_ = Path(sys.executable).parent
    env = {**env, "PATH": f"{bin_}:{env['PATH']}"}
    command = [str(bin_ / "flwr"), *arguments]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def final_status(env, run_id):
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        runs = json.loads(flwr(env, "ls", "--run-id", run_id, "--format", "json"))["runs"]
        if runs[0]["status"].startswith("finished"):
            return runs[0]["status"]
        time.sleep(1.0)
    return "not finished"


@pytest.fixture
def submit(flower_home, tmp_path):
    """Submit a run with `flwr run .` and return its final status: the command says 0 anyway."""

    def submit(run_config, nodes=7):
        started = flwr(
            flower_home,
            *("run", ".", "--format", "json"),
            *("--run-config", run_config),
            *("--federation-config", f"num-supernodes={nodes} client-resources-num-cpus=1"),
        )
        return final_status(flower_home, json.loads(started)["run-id"])

    return submit


@pytest.mark.flower
def test_flwr_run_completes_offline_with_the_model_of_a_virtual_run(submit, config, tmp_path):
    folder = tmp_path / "flower-run"
    status = submit(f"num-server-rounds=3 num-clients=7 f=2 attack='gaussian' run-dir='{folder}'")
    assert status == "finished:completed"
    virtual = config(num_clients=7, f=2, attack="gaussian", run_dir=str(tmp_path / "virtual"))
    run(virtual)
    assert (folder / "model.npz").read_bytes() == (tmp_path / "virtual/model.npz").read_bytes()
