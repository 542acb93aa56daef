"""Where a command writes: known to be possible before the work begins, not after it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from matplotlib.backend_bases import FigureCanvasBase
from typer import Option


@dataclass(frozen=True)
class Place(click.ParamType):
    """A file or a folder to write, whose folder is made where it is missing.

    Attributes
    ----------
    is_folder : bool
    suffixes : tuple of str
        What the file's name may end in; empty for anything.
    """

    is_folder: bool = False
    suffixes: tuple[str, ...] = ()
    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or say why nothing can be written there."""
        path = Path(value)
        if self.suffixes and path.suffix not in self.suffixes:
            legal = ", ".join(self.suffixes)
            self.fail(f"{str(path)!r} is no picture, expected a name in {legal}", param, ctx)
        if not self.is_folder and path.is_dir():
            self.fail(f"{str(path)!r} is a folder, expected a file", param, ctx)
        folder = path if self.is_folder else path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.fail(f"{str(folder)!r} cannot be made: {error.strerror}", param, ctx)
        if not os.access(folder, os.W_OK):
            self.fail(f"{str(folder)!r} may not be written", param, ctx)
        return path


_PICTURES = tuple(sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes()))


def picture(help_: str = "Picture to save.") -> Any:
    """Return an option that takes the file of a picture."""
    return Option(help=help_, click_type=Place(suffixes=_PICTURES))


def page(help_: str) -> Any:
    """Return an option that takes the file of a page."""
    return Option(help=help_, click_type=Place())


def folder(help_: str) -> Any:
    """Return an option that takes the folder of results."""
    return Option(help=help_, click_type=Place(is_folder=True))
