"""Errors that a user can do something about, in a sentence instead of a traceback."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

import typer
from click import Context, Option
from rich.console import Console
from typer.core import TyperGroup

from clients.tasks import DataError
from simulations.show.loading import INTERRUPTED

AGAIN = "the same command goes on where it stopped"

GOES_ON = {
    "run": "the same command with --resume goes on after the last round that is kept",
    "arena": AGAIN,
    "figure": AGAIN,
    "published": AGAIN,
}
"""How a command that was interrupted goes on; `real` ends more than itself, and says so itself."""


PATIENCE = 20.0
"""Seconds after Ctrl-C in which threads of others, such as Ray's, have to end."""


class InSentences(TyperGroup):
    """Commands that end with a sentence.

    With exit code 2 where a setting, data or a disk fails, and with 130 at Ctrl-C, where the
    sentence says how to go on.
    """

    def invoke(self, ctx: Context) -> Any:
        """Run the command."""

        @cache  # once: by whoever comes first
        def how_to_go_on() -> None:
            how = GOES_ON.get(ctx.invoked_subcommand or "", "nothing is kept")
            Console().print(f"interrupted: {how}", soft_wrap=True, highlight=False)

        try:
            with _ending_in_time(how_to_go_on):
                return super().invoke(ctx)
        except BrokenPipeError:  # nobody reads on: no error of ours
            raise
        except (ValueError, DataError, OSError) as error:
            say(Console(), error, self._with_option(ctx, str(error)))
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            how_to_go_on()
            raise typer.Exit(INTERRUPTED) from None

    def _with_option(self, ctx: Context, text: str) -> str:
        """Return what is wrong with a setting, by the name of its option where that is one.

        One of several rules is an entry of ``--rules``, and a seed is counted from the first on.
        What is to be set to true or false is a flag.
        """
        name, space, rest = text.partition(" ")
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        options = [each for each in command.params if isinstance(each, Option)] if command else []
        known = {opt for each in options for opt in each.opts}
        called = [f"--{name}", f"-{name}"]
        if rest.startswith("is "):  # else it may be one of its values that fails, as a round does
            called += [f"--first-{name}", f"--{name}s"]
        option = next((each for each in called if each in known), name)
        for flag in (each for each in options if each.secondary_opts):
            (yes, *_), (no, *_) = flag.opts, flag.secondary_opts
            key = yes.removeprefix("--")
            rest = rest.replace(f"{key}=true", yes).replace(f"{key}=false", no)
        return f"{option}{space}{rest}"


@contextmanager
def _ending_in_time(last_words: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C end the program within `PATIENCE`, whatever threads it would wait for."""
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is not signal.default_int_handler:  # somebody else decides
        yield
        return

    def end() -> None:
        last_words()
        os._exit(INTERRUPTED)

    def interrupted(number: int, frame: FrameType | None) -> None:
        timer = threading.Timer(PATIENCE, end)
        timer.daemon = True  # a program that ends by itself does not wait for it
        timer.start()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def say(console: Console, error: Exception, text: str = "") -> None:
    """Print an error's kind and text, as the text stands, or another text."""
    console.print(f"[red]{type(error).__name__}[/red]:", end=" ")
    console.print(text or str(error), soft_wrap=True, markup=False, highlight=False)
