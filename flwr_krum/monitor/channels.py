"""The ways in which an alert leaves: a command of the operator's, or a web address."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from flwr_krum.monitor.alerts import Alert

SECONDS = 10.0
"""How long a command, or a web server's answer, is waited for."""

Channel = Callable[[Alert], None]


class ChannelError(RuntimeError):
    """An alert did not get through; the message says why."""


def to_command(text: str, journal: Path, seconds: float = SECONDS) -> Channel:
    """Return a channel that runs a command, with the alert as a line of JSON at its input.

    It is run without a shell. After ``seconds`` it is ended, with every process that it started.

    Raises
    ------
    ValueError
        If the text is no command, or there is no such program.
    """
    words = shlex.split(text)
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"--alert-command is {text!r}, expected a program that can be run")

    def run(alert: Alert) -> None:
        with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as process:
            try:
                process.communicate(_as_json(alert, journal), timeout=seconds)
            except subprocess.TimeoutExpired as error:
                _end(process)
                raise ChannelError(f"{words[0]} took more than {seconds:g} s") from error
        if process.returncode:
            raise ChannelError(f"{words[0]} ended with {process.returncode}")

    return run


def to_webhook(url: str, journal: Path, seconds: float = SECONDS) -> Channel:
    """Return a channel that posts the alert as JSON to a web address.

    Raises
    ------
    ValueError
        If it is no address of a web server.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--webhook is {url!r}, expected https://... or http://...")

    def post(alert: Alert) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "flwr_krum"}
        request = urllib.request.Request(url, _as_json(alert, journal), headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                pass
        except OSError as error:  # the address may hold a secret: only its host is told
            raise ChannelError(f"{parts.hostname}: {error}") from None

    return post


def _as_json(alert: Alert, journal: Path) -> bytes:
    return json.dumps({**alert._asdict(), "journal": str(journal)}).encode() + b"\n"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads a group of its own, and the group."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
