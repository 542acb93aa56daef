"""The command around a federation; the federation itself is played in this process."""

import fcntl
import subprocess

import pytest
from typer.testing import CliRunner

from flwr_krum.journal import read_journal
from simulations.cli import app
from simulations.engines.engines import quiet_flower, run
from simulations.real import command
from simulations.real.federation import FederationError, Node
from simulations.run.history import read_history


class Played:
    """A federation whose run is over by the time it is first asked after."""

    final = "finished:completed"
    dies_after = None

    def __init__(self, folder, node_configs):
        self.folder, self.entered = folder, 0
        self.nodes = [
            Node(str(i), config, None, str(i), folder / f"{i}.log")
            for i, config in enumerate(node_configs)
        ]
        Played.last = self

    def __enter__(self):
        self.entered += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_):
        self.entered -= 1

    def wait_until_connected(self, progress):
        progress(set())
        progress(set())
        progress({node.name for node in self.nodes})

    def submit(self, config):
        Played.submitted = config
        if self.dies_after is not None:
            config = type(config).from_config(
                {**config.to_config(), "num-server-rounds": self.dies_after}
            )
        # As if each node had come with its role: that of its partition, here.
        roles = {**config.to_config(), "roles": "partition"}
        with quiet_flower():
            run(type(config).from_config(roles))
        return "1"

    def status(self, run_id):
        if self.dies_after is not None:
            raise FederationError("the SuperLink is gone, by signal 9")
        return self.final

    def save_log(self, run_id):
        log = self.folder / "server-app.log"
        log.write_text("first\n\nValueError: what went wrong\n")
        return log


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Call the command line in an empty folder, with a played federation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "Federation", Played)
    monkeypatch.setattr(command, "POLL", 0.0)
    return lambda line, *more: CliRunner().invoke(app, ["real", *line.split(), *more])


def test_a_real_run_leaves_what_a_virtual_one_leaves_and_says_each_round(cli, tmp_path):
    result = cli("--nodes 7 --byzantine 2 --attack gaussian --rule krum --rounds 3")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs/real"
    assert len(read_history(folder)) == 4
    assert len(read_journal(folder / "journal.jsonl")) == 3
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    lines = result.output.splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("round ")] == [
        "round 1",
        "round 2",
        "round 3",
    ]
    assert "rounds with a Byzantine client selected: 0 of 3" in result.output
    assert Played.last.entered == 0


def test_into_a_file_each_stage_is_one_line_as_soon_as_it_is_come_to(cli):
    lines = cli("--nodes 5 --rounds 1").output.splitlines()
    assert lines[:3] == [
        "starting a SuperLink and 5 SuperNodes",
        "connecting: 0 of 5 SuperNodes",
        "connecting: 5 of 5 SuperNodes",
    ]
    assert lines[3].startswith("round 1, ")
    assert lines[4] == "finished:completed"


def test_each_node_gets_its_partition_and_its_role(cli):
    result = cli("--nodes 7 --byzantine 2 --attack omniscient --rounds 1")
    assert result.exit_code == 0, result.output
    assert [node.config for node in Played.last.nodes] == [
        {
            "partition-id": place,
            "num-partitions": 7,
            "role": "honest" if place < 5 else "omniscient",
        }
        for place in range(7)
    ]


def test_without_an_attack_every_node_is_honest(cli):
    assert cli("--nodes 7 --byzantine 2 --rounds 1").exit_code == 0
    assert {node.config["role"] for node in Played.last.nodes} == {"honest"}


def test_any_other_setting_is_taken_in_flowers_own_form(cli, tmp_path):
    settings = "batch-size=32 learning-rate=0.5 schedule='inverse'"
    result = cli("--nodes 5 --rounds 1 --run-config", settings)
    assert result.exit_code == 0, result.output
    written = (tmp_path / "runs/real/config.json").read_text()
    for text in ('"batch-size": 32', '"learning-rate": 0.5', '"schedule": "inverse"'):
        assert text in written


def test_who_was_lost_is_said_at_the_end(cli, monkeypatch):
    lost = ["node 3: silent in 2 rounds"]
    monkeypatch.setattr(command, "losses", lambda reports: lost if len(reports) == 2 else [])
    assert "node 3: silent in 2 rounds" in cli("--nodes 5 --rounds 2").output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--nodes 7 --byzantine 3", "MultiKrum needs 2f + 2 < n, got n=7, f=3"),
        ("--run-config batch-sise=3", "unknown run config keys ['batch-sise']"),
        ("--round-timeout 0", "Invalid value for '--round-timeout': 0.0 is not in the range x>0"),
    ],
)
def test_an_illegal_setting_ends_with_a_sentence_before_anything_starts(cli, line, message):
    Played.last = None
    result = cli(line)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert Played.last is None


def test_a_run_that_failed_is_said_to_have_with_the_end_of_its_log(cli, monkeypatch):
    monkeypatch.setattr(Played, "final", "finished:failed")
    result = cli("--nodes 5 --rounds 1")
    assert result.exit_code == 1
    assert "the run is finished:failed" in result.output
    assert "ValueError: what went wrong" in result.output
    assert Played.last.entered == 0


def test_when_the_superlink_dies_it_is_said_how_to_go_on_and_that_works(cli, tmp_path, monkeypatch):
    line = "--nodes 7 --byzantine 2 --attack gaussian --rule 1-p-krum --rounds 4"
    monkeypatch.setattr(Played, "dies_after", 2)
    result = cli(line)
    assert result.exit_code == 1
    assert "2 rounds are done; the same command with --resume goes on" in result.output
    monkeypatch.setattr(Played, "dies_after", None)
    result = cli(f"{line} --resume")
    assert result.exit_code == 0, result.output
    assert "round 3," in result.output
    parts = (tmp_path / "runs/real/model.npz").read_bytes()
    assert cli(f"{line} --run-dir whole").exit_code == 0
    assert (tmp_path / "whole/model.npz").read_bytes() == parts


def test_two_real_runs_do_not_write_into_one_folder(cli, tmp_path):
    (tmp_path / "runs/real").mkdir(parents=True)
    with (tmp_path / "runs/real/real.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = cli("--nodes 5 --rounds 1")
    assert result.exit_code == 2
    assert "runs/real is being written by another process: wait for it" in result.output
    assert cli("--nodes 5 --rounds 1").exit_code == 0


def test_a_node_that_ended_is_shown_as_gone(tmp_path):
    ended = subprocess.Popen(["sh", "-c", "exit 3"])
    ended.wait()
    node = Node("4", {"role": "honest"}, None, "4", tmp_path / "log", ended)
    state = command._state_of(node, None)
    assert (state.name, state.process, state.activity) == (4, "ended (3)", "gone")


def test_a_node_that_runs_is_shown_with_what_it_does(tmp_path):
    log = tmp_path / "log"
    log.write_text("Receiving: train message\n")
    running = subprocess.Popen(["sleep", "60"])
    node = Node("4", {"role": "gaussian"}, None, "4", log, running)
    try:
        assert command._state_of(node, None).activity == "training"
        assert command._state_of(node, set()).activity == "starting"
        assert command._state_of(node, {"4"}).activity == "connected"
        assert command._state_of(node, None).process == f"pid {running.pid}"
    finally:
        running.kill()
        running.wait()


def test_the_roles_of_a_real_run_come_from_its_nodes_alone(cli):
    assert cli("--nodes 5 --byzantine 1 --attack gaussian --rounds 1").exit_code == 0
    assert Played.submitted.settings.roles == "node"
