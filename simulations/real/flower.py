"""Flower's command line, in this process: a process for each call would take seconds."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_STREAMS = ("stdout", "__stdout__", "stderr", "__stderr__")


class FlowerError(RuntimeError):
    """One of Flower's commands did not do what it was asked to."""


def run_command(env: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run ``flwr ARGUMENTS --format json`` and return what it prints.

    Parameters
    ----------
    env : mapping of str to str
        The environment of the command, for as long as it runs also that of this process.
    *arguments : str
        As on the command line.

    Raises
    ------
    FlowerError
        If the command fails or says that it did; the text is Flower's.
    """
    printed = run_for_text(env, *arguments, "--format", "json")
    try:
        answer: dict[str, Any] = json.loads(printed)
    except ValueError as error:
        raise FlowerError(_complaint(arguments, printed)) from error
    if not answer.get("success"):
        raise FlowerError(_complaint(arguments, str(answer.get("error-message", answer))))
    return answer


def run_for_text(env: Mapping[str, str], *arguments: str) -> str:
    """Run ``flwr ARGUMENTS`` and return what it prints; as for `run_command` in all else."""
    from flwr.cli.app import app as flwr  # a second, which no other command should pay

    with _environment(env), _captured() as printed:
        try:
            flwr(list(arguments), standalone_mode=False)
        except (SystemExit, Exception) as error:
            raise FlowerError(_complaint(arguments, f"{error} {printed.getvalue()}")) from error
    return printed.getvalue()


def _complaint(arguments: tuple[str, ...], text: str) -> str:
    return f"flwr {' '.join(arguments[:2])}: {' '.join(text.split())}"


@contextlib.contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    # Where colours are forced, Flower would paint its JSON too.
    os.environ.update(env, FORCE_COLOR="")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    """Catch what is printed: Flower prints JSON past any redirection of ``sys.stdout``."""
    streams = {name: getattr(sys, name) for name in _STREAMS}
    handlers = {
        handler: handler.stream
        for handler in logging.getLogger("flwr").handlers
        if isinstance(handler, logging.StreamHandler)
    }
    printed = io.StringIO()
    for name in _STREAMS:
        setattr(sys, name, printed)
    for handler in handlers:
        handler.setStream(printed)
    try:
        yield printed
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)
        for handler, stream in handlers.items():
            handler.setStream(stream)
