"""One federation of real processes: seven SuperNodes, TLS, registered keys, two attackers."""

import os
import signal

import numpy as np
import pytest

from flwr_krum.journal import read_journal
from simulations.engines.engines import quiet_flower, run
from simulations.real.command import node_configs
from simulations.real.credentials import make_node_key
from simulations.real.federation import Federation, Node
from simulations.real.view import ANSWERED, losses
from simulations.run.history import read_model
from tests.simulations.processes import follow, listening, running_with, until

pytestmark = pytest.mark.flower

N, F = 7, 2
# Attackers that work out what all honest clients answer, and clients that remember.
ATTACK = {
    "f": F, "attack": "sign-flip(scale=100, of=mean)", "rule": "multi-krum", "momentum": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def federation(folder, config):
    with Federation(folder / "federation", node_configs(config(folder, **ATTACK))) as running:
        running.wait_until_connected()
        yield running


@pytest.fixture(scope="module")
def stranger(federation, folder):
    """A SuperNode whose key nobody has registered."""
    key = make_node_key(folder / "strangers", "stranger")
    config = {"partition-id": 0, "num-partitions": N, "role": "gaussian"}
    node = Node("stranger", config, key, "", federation.logs / "stranger.log")
    federation.start_node(node)
    return node


@pytest.fixture(scope="module")
def attacked(federation, stranger, folder, config):
    """The final status of a run under attack through each API; they share the nodes."""
    runs = {}
    for api in ("message", "fit"):
        runs[api] = federation.submit(config(folder / api, api=api, **ATTACK))
        # Flower installs an app for each run, and two that do so at once disturb each other.
        until((folder / api / "config.json").exists)
    return {api: follow(federation, run_id) for api, run_id in runs.items()}


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_real_run_has_the_model_bytes_of_the_virtual_one(attacked, folder, config, api):
    assert attacked[api] == "finished:completed"
    with quiet_flower():
        run(config(folder / f"virtual-{api}", api=api, roles="partition", **ATTACK))
    real, virtual = folder / api, folder / f"virtual-{api}"
    assert (real / "model.npz").read_bytes() == (virtual / "model.npz").read_bytes()
    assert (real / "history.jsonl").read_bytes() == (virtual / "history.jsonl").read_bytes()
    (report,) = read_journal(real / "journal.jsonl")
    assert report.received == tuple(range(N))
    assert set(report.selected) == set(range(N - F))


def test_an_unregistered_key_is_turned_away(attacked, stranger, federation):
    assert stranger.process.wait(60.0) == 1
    assert "Failed to initialize the connection to the SuperLink" in stranger.log.read_text()
    assert len(federation.connected()) == N


@pytest.fixture(scope="module")
def seconds_of_a_round(attacked, folder):
    """The seconds in which this machine, busy as it is, had every node answer two runs at once."""

    def written(api, name):
        return (folder / api / name).stat().st_mtime

    return max(written(api, "model.npz") - written(api, "config.json") for api in attacked)


FAULTS = {3: "nan", 4: "wrong-size", 5: "swapped-arrays", 6: "examples-nan"}
REASONS = {3: "holds NaN", 4: "shape (", 5: "shape ("}
KILLED = (0, 3)
ROUNDS = 3


@pytest.fixture(scope="module")
def under_fire(attacked, seconds_of_a_round, federation, folder, config):
    """The rounds of a run with four hostile nodes, of which one is killed, beside an honest one.

    The hostile ones have started again with their keys. In round 2 the two hang, and are killed
    when others have answered.
    """
    hostile = [federation.nodes[place] for place in FAULTS]
    for node in hostile:
        node.process.terminate()
    for node, fault in zip(hostile, FAULTS.values(), strict=True):
        node.process.wait(30.0)
        node.config = {**node.config, "role": "malformed", "fault": fault}
        federation.start_node(node)
    federation.wait_until_connected()

    # A rule that three replies are enough for: three are refused, and two more are lost.
    # Only one run asks this time, so half as long is enough for those who live.
    patience = max(8.0, seconds_of_a_round / 2)
    options = {"num_server_rounds": ROUNDS, "round_timeout": patience}
    made = config(folder / "fire", rule="medoid", f=3, **options)
    run_id = federation.submit(made)
    until(lambda: (folder / "fire/model.npz").exists() and read_model(folder / "fire")[0] == 1)
    victims = [federation.nodes[place].process for place in KILLED]
    for process in victims:
        os.kill(process.pid, signal.SIGSTOP)
    witness = federation.nodes[1].log
    answers = witness.read_text().count(ANSWERED)
    until(lambda: witness.read_text().count(ANSWERED) > answers)
    for process in victims:
        process.kill()
    assert follow(federation, run_id) == "finished:completed"
    reports = read_journal(folder / "fire/journal.jsonl")
    assert [report.server_round for report in reports] == list(range(1, ROUNDS + 1))
    return reports


def alive(federation):
    """Return the places of the SuperNodes that run."""
    nodes = federation.nodes
    return [place for place in range(N) if nodes[place].process.poll() is None]


@pytest.mark.slow
def test_a_node_that_restarts_with_its_key_is_the_same_node(under_fire):
    first = under_fire[0]
    assert {*first.received, *(refused.client for refused in first.refused)} == set(range(N))


@pytest.mark.slow
def test_malformed_replies_end_no_run_and_their_nodes_are_named(under_fire, folder):
    first = under_fire[0]
    refused = {refused.client: refused.reason for refused in first.refused}
    assert refused.keys() == REASONS.keys()
    for client, reason in REASONS.items():
        assert reason in refused[client]
    assert list(first.doubted) == [6]
    assert first.received == (0, 1, 2, 6)
    assert first.stepped
    assert all(np.isfinite(array).all() for array in read_model(folder / "fire")[1].values())


@pytest.mark.slow
def test_training_goes_on_when_nodes_are_killed_and_the_report_shows_the_loss(
    under_fire, federation
):
    for report in under_fire[1:]:
        assert sorted([*report.silent, *report.failed]) == list(KILLED)
        assert report.received == (1, 2, 6)
        assert report.stepped
    # Whose loss the SuperLink notices before the round is over comes first.
    assert sorted(line.split(":")[0] for line in losses(under_fire)) == ["node 0", "node 3"]
    assert [place for place in range(N) if place not in alive(federation)] == list(KILLED)


def test_nothing_runs_or_listens_when_it_is_over(attacked, federation):
    pids = running_with(federation.home)
    ports = listening(pids)
    programs = len(alive(federation)) + 1  # the SuperNodes and the SuperLink
    assert programs > N - len(KILLED)
    assert len(pids) >= 2 * programs  # a SuperExec beside each
    assert len(ports) == programs
    federation.__exit__()
    assert running_with(federation.home) == []
    assert not ports & listening()
    assert [entry.name for entry in federation.folder.iterdir()] == ["logs"]
