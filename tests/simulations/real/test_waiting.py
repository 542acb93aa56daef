"""Real rounds that close at a quorum: a node that hangs holds none of them until its timeout."""

import os
import signal

import pytest

from flwr_krum.journal import read_journal
from simulations.real.command import node_configs
from simulations.real.federation import Federation
from tests.simulations.processes import follow, until

pytestmark = [pytest.mark.flower, pytest.mark.slow]

HANGING, QUORUM, ROUNDS, PATIENCE = 2, 5, 6, 240.0

START = 600.0
"""Seconds for the first round: the server compiles its kernels anew, and cores may be busy."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("waiting")


@pytest.fixture(scope="module")
def federation(folder, config):
    """Seven honest nodes."""
    with Federation(folder / "federation", node_configs(config(folder))) as running:
        running.wait_until_connected()
        yield running


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_node_that_hangs_holds_no_round_until_its_timeout_and_is_named_and_heard_again(
    federation, folder, config, api
):
    def reports():
        path = folder / api / "journal.jsonl"
        return read_journal(path) if path.exists() else []

    def missing(report):
        """Late, or failed where the SuperLink took it for gone before the grace was over."""
        return HANGING in {*report.late, *report.failed}

    hanging = federation.nodes[HANGING].process
    made = config(
        folder / api, f=1, api=api, num_server_rounds=ROUNDS, quorum=QUORUM, round_timeout=PATIENCE
    )
    run_id = federation.submit(made)
    try:
        until(lambda: len(reports()) >= 1, START)
        os.kill(hanging.pid, signal.SIGSTOP)
        until(lambda: any(map(missing, reports())), PATIENCE)
    finally:
        os.kill(hanging.pid, signal.SIGCONT)
    assert follow(federation, run_id) == "finished:completed"
    done = reports()
    assert len(done) == ROUNDS
    for report in done:
        assert report.stepped
        assert report.byzantine == 1
        assert len(report.received) >= QUORUM
        assert set(report.arrived) == set(report.received)
        assert max(report.arrived.values()) < PATIENCE
        assert not {*report.late} & {*report.received}
        assert report.silent == ()
    first = next(report.server_round for report in done if missing(report))
    assert any(HANGING in report.received for report in done[first:])
