"""What real federations survive, and that nothing of them survives their command."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from flwr_krum.attacks import FAULTS
from flwr_krum.journal import read_journal
from simulations.engines.engines import quiet_flower, run
from simulations.real.command import node_configs
from simulations.real.federation import ROOT, Federation, FederationError
from simulations.run.history import read_history, read_model
from tests.simulations.processes import follow, listening, running_with, until
from tests.simulations.real.hanging import HANGING, TIMEOUT, is_missed, run_with_a_hanging_node

pytestmark = [pytest.mark.flower, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "simulations", "real"]


def rounds_in(folder):
    return read_model(folder)[0] if (folder / "model.npz").exists() else -1


def play(federation, node, **node_config):
    """Start a node again in another role."""
    node.process.terminate()
    node.process.wait(30.0)
    node.config = {**node.config, **node_config}
    federation.start_node(node)
    federation.wait_until_connected()


@pytest.mark.parametrize("fault", ["nan", "wrong-size", "swapped-arrays", "examples-nan"])
def test_one_malformed_node_of_seven_ends_no_run_of_either_api(federation, folder, config, fault):
    assert fault in FAULTS
    play(federation, federation.nodes[6], role="malformed", fault=fault)
    for api in ("message", "fit"):
        made = config(folder / fault / api, f=1, api=api, num_server_rounds=2)
        assert follow(federation, federation.submit(made)) == "finished:completed"
        for report in read_journal(folder / fault / api / "journal.jsonl"):
            assert report.stepped
            assert set(range(6)) <= set(report.received)
            named = {*(refused.client for refused in report.refused), *report.doubted}
            # Arrays have no names over aggregate_fit: exchanging two of them exchanges nothing.
            assert named == (set() if (api, fault) == ("fit", "swapped-arrays") else {6})
    play(federation, federation.nodes[6], role="honest")


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_node_that_hangs_is_missed_by_its_rounds_alone_and_heard_again(
    federation, folder, config, api
):
    options = {"num_server_rounds": 8, "round_timeout": TIMEOUT}
    made = config(folder / "hangs" / api, f=1, api=api, **options)
    reports = run_with_a_hanging_node(federation, made)
    for report in reports:
        assert report.stepped
        assert {*report.silent, *report.failed} == ({HANGING} if is_missed(report) else set())
        assert {*report.received} >= set(range(7)) - {HANGING}
    assert any(map(is_missed, reports))
    assert HANGING in reports[0].received
    assert HANGING in reports[-1].received


def test_a_killed_node_comes_back_with_its_key_once_the_superlink_has_missed_it(
    federation, folder, config
):
    node = federation.nodes[4]
    node.process.kill()
    node.process.wait()
    # Until two heartbeats are missed, the SuperLink takes the key for one that is in use.
    until(lambda: node.name not in federation.connected(), 90.0)
    federation.start_node(node)
    federation.wait_until_connected()
    made = config(folder / "back", f=1)
    assert follow(federation, federation.submit(made)) == "finished:completed"
    (report,) = read_journal(folder / "back/journal.jsonl")
    assert report.received == tuple(range(7))


def test_a_dead_superlink_is_noticed(tmp_path, config):
    with Federation(tmp_path / "federation", node_configs(config(tmp_path))[:1]) as federation:
        federation.superlink.kill()
        federation.superlink.wait()
        with pytest.raises(FederationError, match="the SuperLink is gone, by signal 9"):
            federation.wait_until_connected()
    assert running_with(federation.home) == []


@contextlib.contextmanager
def commanded(run_dir, line, terminal=None):
    """Start the command; kill it if the test has not ended it, and all that is its own."""
    ends = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if terminal is not None:
        ends = dict.fromkeys(ends, terminal)
    process = subprocess.Popen(
        [*COMMAND, "--run-dir", str(run_dir), *line.split()],
        **ends,
        cwd=ROOT,
        text=True,
        start_new_session=True,
        preexec_fn=None if terminal is None else lambda: _take(terminal),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _take(terminal):
    """Make a terminal the one that controls this session."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


SMALL = "--nodes 3 --rounds 50"


def home_of(run_dir):
    return run_dir / "federation/home"


def until_busy(run_dir):
    """Wait until a small run has begun; return its processes and ports."""
    until(lambda: rounds_in(run_dir) >= 0)
    pids = running_with(home_of(run_dir))
    ports = listening(pids)
    assert len(ports) == 4
    return pids, ports


def assert_gone(run_dir, pids, ports):
    until(lambda: running_with(home_of(run_dir)) == [], 30.0)
    assert not [pid for pid in pids if _runs(pid)]
    assert not ports & listening()
    # No key outlives its federation.
    until(lambda: [entry.name for entry in (run_dir / "federation").iterdir()] == ["logs"], 30.0)


def _runs(pid):
    """Whether a process is there and not merely unburied."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda s: s.name
)
def test_nothing_is_left_when_the_command_is_ended_by_a_signal(tmp_path, sign):
    with commanded(tmp_path, SMALL) as process:
        pids, ports = until_busy(tmp_path)
        process.send_signal(sign)
        assert process.wait(30.0) != 0
        assert_gone(tmp_path, pids, ports)


def test_nothing_is_left_when_the_terminal_goes_away(tmp_path):
    ours, theirs = pty.openpty()
    shown = []

    def read():
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                shown.append(part)

    with commanded(tmp_path, SMALL, terminal=theirs) as process:
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        pids, ports = until_busy(tmp_path)
        until(lambda: b"training" in b"".join(shown))  # the live view is drawn
        os.close(ours)
        assert process.wait(30.0) != 0
        assert_gone(tmp_path, pids, ports)
        reader.join()


def test_nothing_is_left_when_the_run_fails(tmp_path):
    # The ServerApp, unlike the command, sees that the folder holds another run.
    (tmp_path / "config.json").write_text('{"rule": "krum"}')
    (tmp_path / "model.npz").write_bytes(b"no model")
    (tmp_path / "history.jsonl").write_text("")
    with commanded(tmp_path, "--nodes 3 --rounds 1 --rule medoid --resume") as process:
        said = process.stdout.read()
        assert process.wait(120.0) == 1
    assert "the run is finished:failed" in said
    assert "holds another run: rule was 'krum' and is 'medoid'" in " ".join(said.split())
    assert running_with(home_of(tmp_path)) == []


def test_one_command_goes_on_after_the_superlink_has_died(tmp_path, config):
    options = {"f": 2, "attack": "gaussian", "rule": "1-p-krum", "num_server_rounds": 4}
    line = "--nodes 7 --byzantine 2 --attack gaussian --rule 1-p-krum --rounds 4"
    run_dir = tmp_path / "real"
    with commanded(run_dir, line) as process:
        until(lambda: rounds_in(run_dir) >= 2)
        (superlink,) = (
            pid
            for pid in running_with(home_of(run_dir))
            if "flower-superlink" in " ".join(psutil.Process(pid).cmdline())
        )
        os.kill(superlink, signal.SIGKILL)
        said = process.stdout.read()
        assert process.wait(60.0) == 1
    assert re.search(r"the SuperLink is gone, by signal 9", said)
    assert re.search(r"\d rounds are done; the same command with --resume goes on", said)
    assert running_with(home_of(run_dir)) == []
    with commanded(run_dir, f"{line} --resume") as process:
        said = process.stdout.read()
        assert process.wait(180.0) == 0, said
    with quiet_flower():
        run(config(tmp_path / "virtual", **options, roles="partition"))
    for name in ("model.npz", "history.jsonl"):
        assert (run_dir / name).read_bytes() == (tmp_path / "virtual" / name).read_bytes()
    assert [r.server_round for r in read_journal(run_dir / "journal.jsonl")] == [1, 2, 3, 4]
    assert (run_dir / "accuracy.png").exists()


def test_two_real_runs_live_side_by_side(tmp_path):
    line = "--nodes 3 --rounds 2"
    with commanded(tmp_path / "a", line) as first, commanded(tmp_path / "b", line) as second:
        for process in (first, second):
            said = process.stdout.read()
            assert process.wait(180.0) == 0, said
    assert (tmp_path / "a/model.npz").read_bytes() == (tmp_path / "b/model.npz").read_bytes()
    assert [record.round for record in read_history(tmp_path / "a")] == [0, 1, 2]
