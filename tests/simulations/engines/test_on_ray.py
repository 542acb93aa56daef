import os

import numpy as np
import pytest
from typer.testing import CliRunner

from clients.tasks import spambase
from simulations.cli import app
from simulations.engines.engines import quiet_flower, run
from simulations.engines.on_ray import read_backend
from tests.simulations.engines.conftest import of_ray

JOINED = {"init_args": {"address": "auto"}}


@pytest.mark.flower
def test_a_running_cluster_of_two_nodes_computes_the_model_of_this_process(
    two_nodes, config, tmp_path
):
    # Data that a worker finds only if it looks where the run was started.
    rows = np.random.default_rng(0).random((spambase.ORIGINAL_ROWS, 58)).round(2)
    rows[:, -1] = np.arange(len(rows)) % 2
    (tmp_path / "data").mkdir()
    np.savetxt(tmp_path / "data/spambase.data", rows, "%g", ",")
    # A seed of its own: tasks are kept per process, under the name of the folder and the seed.
    options = {"rule": "average", "attack": "gaussian", "f": 2, "num_clients": 7, "seed": 77}
    nodes = []

    def observer(record):
        if record.round == 3:
            found = of_ray(os.getpid()).values()
            nodes.extend(parent for parent, command in found if "ClientAppActor" in command)

    with quiet_flower():
        with pytest.raises(ValueError, match="ActorPool is empty"):
            run(config(), "ray", backend={**JOINED, "client_resources": {"num_cpus": 64}})
        run(config(run_dir=str(tmp_path / "ray"), **options), "ray", observer, JOINED)
        run(config(run_dir=str(tmp_path / "here"), **options))
    # An actor is a child of its node's raylet.
    assert len(nodes) == len(set(nodes)) == 2
    assert (tmp_path / "ray/model.npz").read_bytes() == (tmp_path / "here/model.npz").read_bytes()
    assert '"data-dir": "data"' in (tmp_path / "ray/config.json").read_text()
    # Who joins a cluster leaves it running.
    assert sum("raylet/raylet" in command for _, command in of_ray(os.getpid()).values()) == 2


def test_what_ray_does_not_take_is_said_before_anything_runs(config, tmp_path):
    with pytest.raises(ValueError, match=r"Ray cannot run on .*Unknown keyword.*nonsense"):
        run(config(), "ray", backend={"init_args": {"nonsense": 1}})
    assert not (tmp_path / "run").exists()


def test_the_command_line_hands_a_backend_to_ray(tmp_path):
    backend = '{"init_args": {"nonsense": 1}}'
    options = ["--rounds", "1", "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["run", *options, "--engine", "ray", "--backend", backend])
    assert result.exit_code == 2
    assert "Unknown keyword argument(s): nonsense" in result.output
    result = CliRunner().invoke(app, ["run", *options, "--backend", backend])
    assert "a backend is for engine 'ray'" in result.output


def test_a_backend_is_for_ray_alone(config):
    with pytest.raises(ValueError, match="a backend is for engine 'ray', not 'fast'"):
        run(config(), "fast", backend=JOINED)


def test_a_backend_is_read_from_json():
    text = '{"client_resources": {"num_cpus": 2}, "init_args": {"address": "auto"}}'
    assert read_backend(text) == {"client_resources": {"num_cpus": 2}, **JOINED}
    assert read_backend("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_cpus=2", "which is not JSON"),
        ("[1]", "expected an object of objects"),
        ('{"init_args": 1}', "expected an object of objects"),
        ('{"init-args": {}}', r"unknown sections \['init-args'\], expected .*'init_args'"),
    ],
)
def test_a_backend_that_is_none_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        read_backend(text)
