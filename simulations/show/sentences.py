"""Errors that a user can do something about, in a sentence instead of a traceback."""

from __future__ import annotations

from typing import Any

import typer
from click import Context
from rich.console import Console
from typer.core import TyperGroup

from clients.tasks import DataError


class InSentences(TyperGroup):
    """Commands that end with a sentence, and exit code 2, where a setting, data or a disk fails."""

    def invoke(self, ctx: Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # nobody reads on: no error of ours
            raise
        except (ValueError, DataError, OSError) as error:
            say(Console(), error)
            raise typer.Exit(2) from error


def say(console: Console, error: Exception) -> None:
    """Print an error's kind and text, as the text stands."""
    console.print(f"[red]{type(error).__name__}[/red]:", end=" ")
    console.print(str(error), soft_wrap=True, markup=False, highlight=False)
