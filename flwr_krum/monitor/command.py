"""``python -m flwr_krum.monitor``: the numbers of a journal for Prometheus, and its alerts."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from flwr_krum.checks import whole_number
from flwr_krum.hook import Hook
from flwr_krum.monitor.alerts import Alert
from flwr_krum.monitor.channels import SECONDS, to_command, to_webhook
from flwr_krum.monitor.monitor import Monitor

EVERY = 1.0
"""Seconds between two looks at the journal."""

_LOG = logging.getLogger("flwr_krum.monitor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch a journal until somebody ends it; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        monitor = _monitor(options)
        monitor.look()
        _serve(options.listen, monitor)
    except (ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    try:
        while True:
            if not monitor.look():
                time.sleep(EVERY)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m flwr_krum.monitor",
        description="Show the rounds in a journal to Prometheus, and tell of what needs a look. "
        "It reads the journal and nothing else, and can be started and stopped at any time.",
    )
    parser.add_argument("--journal", type=Path, required=True, help="it need not be there yet")
    parser.add_argument(
        "--listen", default="127.0.0.1:9464", metavar="HOST:PORT", help="default: %(default)s"
    )
    parser.add_argument("--alert-command", metavar="CMD", help="gets each alert as JSON, at stdin")
    parser.add_argument("--webhook", metavar="URL", help="gets each alert as JSON, by POST")
    parser.add_argument(
        "--refusals", type=int, default=3, metavar="K",
        help="alert when a node was refused so many times in a row; default: %(default)s",
    )  # fmt: skip
    return parser


def _monitor(options: argparse.Namespace) -> Monitor:
    whole_number("--refusals", options.refusals, 1)
    hooks = []
    # A channel ends by itself after SECONDS; its hook waits longer than that.
    patience = 2.0 * SECONDS
    if options.alert_command is not None:
        run = to_command(options.alert_command, options.journal)
        hooks.append(Hook[Alert](run, "the alert command", _LOG.info, patience))
    if options.webhook is not None:
        post = to_webhook(options.webhook, options.journal)
        hooks.append(Hook[Alert](post, "the webhook", _LOG.info, patience))
    return Monitor(options.journal, options.refusals, [hook.tell for hook in hooks], _LOG.info)


def _serve(listen: str, monitor: Monitor) -> None:
    """Answer whoever asks for the numbers, in threads of their own."""
    try:
        from prometheus_client import start_http_server

        from flwr_krum.monitor.exposition import registry_of
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'flwr-krum[monitor]'") from error
    host, port = _address(listen)
    try:
        server, _ = start_http_server(port, host, registry_of(monitor.numbers))
    except OSError as error:
        raise OSError(f"--listen {listen}: {error.strerror or error}") from error
    _LOG.info(
        "listening on http://%s/metrics", listen.replace(f":{port}", f":{server.server_port}")
    )


def _address(listen: str) -> tuple[str, int]:
    """Return host and port.

    Raises
    ------
    ValueError
        If the text is no address.
    """
    try:
        parts = urlsplit(f"//{listen}")
        if parts.hostname and parts.port is not None and parts.netloc == listen:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ValueError(f"--listen is {listen!r}, expected HOST:PORT such as 127.0.0.1:9464")
