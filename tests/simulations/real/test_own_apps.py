"""Flower's own templates with the plugin, on real nodes, from the wheel alone; one node attacks."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from flwr_krum.journal import read_journal
from simulations.real.federation import Federation
from tests.simulations.processes import follow
from tests.simulations.real.own_app import own_app

pytestmark = [pytest.mark.flower, pytest.mark.slow]

ROOT = Path(__file__).parents[3]

N, HOSTILE, ROUNDS = 6, 3, 2


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment in which there is the wheel, and what it requires; its packages' folder."""
    folder = tmp_path_factory.mktemp("environment")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin/python", "-m", "pip", "install", "-qq", wheel], check=True)
    return venv


def lend_frameworks(venv):
    """Let an environment find PyTorch and scikit-learn here, after all that is its own."""
    packages = sysconfig.get_path("purelib", vars={"base": str(venv)})
    Path(packages, "lent.pth").write_text(sysconfig.get_path("purelib"))


@pytest.mark.parametrize("framework", ["numpy", "sklearn", "torch"])
def test_a_template_trains_on_real_nodes_from_the_wheel_alone_and_never_selects_the_attacker(
    environment, tmp_path, monkeypatch, framework
):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if framework != "numpy":
        lend_frameworks(environment)
    where = [environment / "bin/python", "-c", "import flwr_krum; print(flwr_krum.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found).is_relative_to(environment)

    configs = [{"partition-id": place, "num-partitions": N} for place in range(N)]
    configs[HOSTILE]["attack"] = "sign-flip(scale=10)"
    journal = tmp_path / "journal.jsonl"
    with Federation(tmp_path / "f", configs, (), environment / "bin") as federation:
        federation.wait_until_connected()
        app = own_app(tmp_path / "app", framework)
        settings = {"num-server-rounds": ROUNDS, "round-timeout": 240.0, "journal": str(journal)}
        status = follow(federation, federation.submit_app(app, settings), 900.0)
        print((federation.logs / "server-app.log").read_text())
        assert status == "finished:completed"
        ids = {int(node.node_id) for node in federation.nodes}
    everybody = set(range(N)) if framework == "numpy" else ids
    attacker = HOSTILE if framework == "numpy" else int(federation.nodes[HOSTILE].node_id)
    reports = read_journal(journal)
    assert [report.server_round for report in reports] == list(range(1, ROUNDS + 1))
    for report in reports:
        assert {*report.received} == everybody
        assert report.stepped
        assert attacker not in report.selected
