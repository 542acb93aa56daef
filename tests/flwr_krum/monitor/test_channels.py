"""Alerts leave as JSON; what hangs or fails is a sentence."""

import http.server
import json
import shlex
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from flwr_krum.monitor.alerts import Alert
from flwr_krum.monitor.channels import ChannelError, to_command, to_webhook

ALERT = Alert("model kept", 7, "round 7: the model stays as it was", "a")
JOURNAL = Path("run/journal.jsonl")
AS_JSON = {
    "alert": "model kept", "round": 7, "text": "round 7: the model stays as it was", "node": "a",
    "journal": "run/journal.jsonl",
}  # fmt: skip


def python(code, *arguments):
    return shlex.join([sys.executable, "-c", code, *map(str, arguments)])


def test_a_command_gets_the_alert_at_its_input(tmp_path):
    file = tmp_path / "told; touch owned"  # no shell reads it
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    to_command(python(copy, file), JOURNAL)(ALERT)
    assert json.loads(file.read_text()) == AS_JSON


def test_a_command_that_reads_nothing_is_no_error():
    to_command(python("pass"), JOURNAL)(ALERT._replace(text="x" * 1_000_000))


def test_a_command_that_fails_is_told():
    with pytest.raises(ChannelError, match="ended with 3"):
        to_command(python("raise SystemExit(3)"), JOURNAL)(ALERT)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    file = tmp_path / "alive"
    child = f"import time; time.sleep(0.6); open({str(file)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    began = time.monotonic()
    with pytest.raises(ChannelError, match=r"took more than 0.2 s"):
        to_command(python(code), JOURNAL, seconds=0.2)(ALERT)
    time.sleep(max(0.0, began + 1.0 - time.monotonic()))
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "no-such-program-anywhere --now", "'"])
def test_what_is_no_command_is_named(text):
    with pytest.raises(ValueError, match=r"--alert-command is|No closing quotation"):
        to_command(text, JOURNAL)


@contextmanager
def web_server(status):
    """A web server that keeps what it is sent; with None for a status it never answers."""
    got, over = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if status is None:
                over.wait(10)
                return
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret", got
        over.set()
        server.shutdown()


def test_a_webhook_gets_the_alert_as_json():
    with web_server(200) as (url, got):
        to_webhook(url, JOURNAL)(ALERT)
    assert got == [AS_JSON]


@pytest.mark.parametrize(("status", "why"), [(500, "HTTP Error 500"), (None, "timed out")])
def test_a_webhook_that_fails_or_hangs_is_told_without_its_address(status, why):
    with web_server(status) as (url, _), pytest.raises(ChannelError, match=why) as error:
        to_webhook(url, JOURNAL, seconds=0.3)(ALERT)
    assert "secret" not in str(error.value)


def test_a_web_server_that_is_not_there_is_told():
    with pytest.raises(ChannelError, match=r"127.0.0.1: .*refused"):
        to_webhook("http://127.0.0.1:9/x", JOURNAL)(ALERT)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://example.org", "https://", "x"])
def test_what_is_no_web_address_is_named(url):
    with pytest.raises(ValueError, match=r"--webhook is .*, expected https://"):
        to_webhook(url, JOURNAL)
