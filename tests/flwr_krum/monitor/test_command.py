"""The monitor lives beside the run, and ends where nobody finds a traceback."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytest.importorskip("prometheus_client")

from flwr_krum.monitor.command import main


def test_it_begins_before_the_run_shows_its_numbers_tells_of_it_and_ends_quietly(journal, tmp_path):
    path, told = tmp_path / "journal.jsonl", tmp_path / "told"
    copy = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", copy, str(told)])
    monitor = subprocess.Popen(
        [sys.executable, "-m", "flwr_krum.monitor", "--journal", path, "--listen", "127.0.0.1:0",
         "--alert-command", command, "--refusals", "2"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert f"{path} is not there yet" in monitor.stderr.readline()
        first = monitor.stderr.readline()
        address = re.search(r"listening on (http://127.0.0.1:\d+/metrics)$", first)[1]
        assert "flwr_krum_journal_readable 0.0" in get(address)
        later = {"time": "9999-01-01T00:00:00.000+00:00"}
        reports = [json.loads(line) | later for line in journal.read_text().splitlines()]
        path.write_text("".join(json.dumps(report) + "\n" for report in reports))
        until(lambda: 'rounds_total{model="moved"} 3.0' in get(address))
        assert 'flwr_krum_node_rounds_total{fate="silent",node="six"} 1.0' in get(address)
        until(lambda: told.exists() and len(told.read_text().splitlines()) == 2)
        alerts = [json.loads(line) for line in told.read_text().splitlines()]
        assert [(a["alert"], a["round"], a["node"]) for a in alerts] == [
            ("refused in a row", 2, "8"), ("model kept", 4, ""),
        ]  # fmt: skip
    finally:
        monitor.send_signal(signal.SIGINT)
        _, said = monitor.communicate(timeout=20)
    assert monitor.returncode == 130
    assert "Traceback" not in said


def get(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def until(is_so):
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


WRONG = {
    "no port": (["--listen", "127.0.0.1"], "--listen is '127.0.0.1', expected HOST:PORT"),
    "no number": (["--listen", "localhost:http"], "expected HOST:PORT"),
    "a port too far": (["--listen", "localhost:99999"], "expected HOST:PORT"),
    "no host": (["--listen", ":9464"], "expected HOST:PORT"),
    "a path": (["--listen", "localhost:9464/metrics"], "expected HOST:PORT"),
    "another machine": (["--listen", "192.0.2.1:9464"], "--listen 192.0.2.1:9464: "),
    "no refusals": (["--refusals", "0"], "--refusals is 0, expected an integer >= 1"),
    "no program": (["--alert-command", "no-such-program"], "expected a program that can be run"),
    "no web address": (["--webhook", "file:///etc/passwd"], "expected https://"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_setting_that_cannot_be_is_a_sentence(what, capsys):
    arguments, said = WRONG[what]
    assert main(["--journal", "j", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["--journal", "j", "--listen", listen]) == 2
    assert capsys.readouterr().err == f"OSError: --listen {listen}: Address already in use\n"
