"""Twenty nodes for twenty rounds, of which one is killed, one hangs, one lies, one never ends.

The app is one that knows nothing of this repository but the plugin.
"""

import json
import re
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
import pytest

from flwr_krum.journal import read_journal
from simulations.real.federation import Federation
from simulations.real.processes import ROOT, members
from simulations.real.view import ANSWERED
from tests.simulations.processes import follow, stopped
from tests.simulations.real.own_app import own_app

pytestmark = [pytest.mark.flower, pytest.mark.slow]

N, F, ROUNDS, SIZE = 20, 4, 20, 250_000
TIMEOUT, SPARE = 90.0, 5.0
KILLED, HANGING, LYING, DRIPPING = 4, 9, 13, 17
KILLED_AFTER, HANGING_AFTER, DRIPS_FROM = 6, 9, 14
FAULTY = {KILLED, HANGING, LYING, DRIPPING}
MOST_IDLE, MOST_GROWTH = 160.0, 1.05
HOUR = 3600.0


def node_config(place):
    config = {"partition-id": place, "num-partitions": N}
    return config | {LYING: {"fault": "nan"}, DRIPPING: {"drips-from": DRIPS_FROM}}.get(place, {})


class ServerApp:
    """The memory of a federation's ServerApp, in MB, by the rounds that are over.

    Attributes
    ----------
    idle : float
        What is resident before any node has answered.
    least : dict of int to float
        What is its own (pages that are shared count in part), at the quietest moment of a round:
        replies come and go.
    """

    def __init__(self, federation):
        self._federation = federation
        self._process = None
        self.idle, self.least = 0.0, {}

    def look(self, done):
        if self._process is None:
            found = [p for p in members(self._federation.home) if "flwr-serverapp" in _line(p)]
            self._process = found[0] if found else None
        memory = {} if self._process is None else _memory_of(self._process.pid)
        if memory:
            self.least[done] = min(memory["Pss"], self.least.get(done, memory["Pss"]))
            if not any(ANSWERED in node.log.read_text() for node in self._federation.nodes):
                self.idle = memory["Rss"]


def _memory_of(pid):
    """Return the sums of a process's memory by kind, in MB; nothing once it has ended."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return {}
    return {kind: int(kb) / 1000.0 for kind, kb in re.findall(r"^(\w+):\s+(\d+) kB", told, re.M)}


def _line(process):
    try:
        return " ".join(process.cmdline()[:2])
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def monitored(tmp_path_factory):
    """A journal that is not there yet, and what its monitor says."""
    journal = tmp_path_factory.mktemp("twenty") / "journal.jsonl"
    command = [sys.executable, "-m", "flwr_krum.monitor", "--journal", journal]
    monitor = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in monitor.stderr:
            if found := re.search(r"listening on (http://\S+)$", line):
                break
        yield journal, lambda: urllib.request.urlopen(found[1]).read().decode()
    finally:
        monitor.terminate()
        monitor.communicate(timeout=20.0)


@pytest.fixture(scope="module")
def this_plugin():
    """Have every process import the plugin that is tested, wherever another one is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def played(monitored, this_plugin, tmp_path_factory):
    """The journal, the memory of the ServerApp, and the metrics at the end."""
    journal, metrics = monitored
    folder = tmp_path_factory.mktemp("federation")
    configs = [node_config(place) for place in range(N)]
    # The ServerApp is not forked: its memory is to be its own.
    with Federation(folder, configs, forked=("flower-superexec", "flwr-clientapp")) as federation:
        federation.wait_until_connected()
        run_id = federation.submit_app(own_app(folder / "own", "numpy"), {
            "size": SIZE, "num-server-rounds": ROUNDS, "round-timeout": TIMEOUT, "byzantine": F,
            "journal": str(journal),
        })  # fmt: skip
        server_app, nodes = ServerApp(federation), federation.nodes
        begin = time.monotonic()

        def until_over(wanted):
            """Watch the memory until so many rounds are over."""
            done = 0
            while done < wanted:
                time.sleep(0.2)
                done = len(read_journal(journal)) if journal.exists() else 0
                server_app.look(done)
                federation.check()
                assert time.monotonic() - begin < HOUR, "waited in vain"

        until_over(KILLED_AFTER)
        nodes[KILLED].process.kill()
        until_over(HANGING_AFTER)
        with stopped(nodes[HANGING].process):
            until_over(ROUNDS)
            assert follow(federation, run_id) == "finished:completed"
    return read_journal(journal), server_app, metrics()


def test_all_rounds_are_made_each_within_its_timeout(played):
    reports, *_ = played
    assert [report.server_round for report in reports] == list(range(1, ROUNDS + 1))
    assert all(report.stepped for report in reports)
    ends = [datetime.fromisoformat(report.time) for report in reports]
    seconds = [(b - a).total_seconds() for a, b in pairwise(ends)]
    print("seconds of rounds", [round(s, 1) for s in seconds])
    assert max(seconds) <= TIMEOUT + SPARE


def test_the_four_that_fail_are_named_and_no_other(played):
    reports, *_ = played
    for report in reports:
        assert [refused.client for refused in report.refused] == [LYING]
        assert {*report.received} >= set(range(N)) - FAULTY
        assert {*report.failed, *report.silent} <= FAULTY - {LYING}
    lost = [{*report.failed, *report.silent} for report in reports]
    assert lost[:KILLED_AFTER] == [set()] * KILLED_AFTER
    assert set.union(*lost) == FAULTY - {LYING}
    assert all(DRIPPING in round_lost for round_lost in lost[DRIPS_FROM - 1 :])


def test_the_metrics_name_the_four_and_no_other(played):
    _, _, metrics = played
    fates = re.findall(
        r'^flwr_krum_node_rounds_total\{fate="([^"]+)",node="(\d+)"\} (\d+)\.0$', metrics, re.M
    )
    bad = {
        int(node) for fate, node, count in fates
        if fate not in ("selected", "passed over") and int(count)
    }  # fmt: skip
    assert {int(node) for _, node, _ in fates} == set(range(N))
    assert bad == FAULTY
    assert 'flwr_krum_rounds_total{model="moved"} 20.0' in metrics


def test_the_report_page_names_the_four_and_no_other(played, monitored, tmp_path):
    journal, _ = monitored
    page = tmp_path / "report.html"
    command = [sys.executable, "-m", "flwr_krum.report_page", journal, "--page", page]
    subprocess.run(command, check=True, capture_output=True)
    (data,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text()
    )
    (run,) = json.loads(data)["runs"]
    assert run["clients"] == list(map(str, range(N)))
    bad = {
        int(client)
        for cells in run["cells"]
        for client, cell in zip(run["clients"], cells, strict=True)
        if cell in "RFMQ"
    }
    assert bad == FAULTY


def test_the_server_app_is_small_when_idle_and_stays_as_small_as_it_was(played):
    _, server_app, _ = played
    print("MB when idle", server_app.idle, "and in each round", server_app.least)
    assert 0 < server_app.idle <= MOST_IDLE
    # Where the threads of twenty replies find room differs by some MB from round to round.
    early, late = (
        median(server_app.least[t] for t in rounds)
        for rounds in (range(5, 10), range(ROUNDS - 4, ROUNDS + 1))
    )
    assert late <= MOST_GROWTH * early
