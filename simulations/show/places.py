"""Where a command writes: known to be possible before the work begins, not after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.backend_bases import FigureCanvasBase
from typer import BadParameter, Option

_PICTURES = tuple(sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes()))


def picture() -> Any:
    """Return an option that takes the file of a picture."""
    return Option(help="Picture to save.", callback=_checked(_check_picture))


def page(help_: str) -> Any:
    """Return an option that takes the file of a page."""
    return Option(help=help_, callback=_checked(_check_file))


def folder(help_: str, *names: str) -> Any:
    """Return an option, of the parameter's name or of others, that takes the folder of results."""
    return Option(*names, help=help_, callback=checked_folder)


_Place = TypeVar("_Place", Path, str)


def checked_folder(path: _Place) -> _Place:
    """Return a folder that can be written, or made, which this does not; "" stands for none."""
    if path != "":
        there = Path(path).absolute()
        while not os.path.exists(there):
            there = there.parent
        if not there.is_dir():
            raise BadParameter(f"{str(path)!r} cannot be made: {str(there)!r} is no folder")
        if not os.access(there, os.W_OK):
            raise BadParameter(f"{str(path)!r} may not be written")
    return path


def _checked(check: Callable[[Path], None]) -> Callable[[Path | None], Path | None]:
    def callback(path: Path | None) -> Path | None:
        if path is not None:
            check(path)
        return path

    return callback


def _check_picture(path: Path) -> None:
    if path.suffix not in _PICTURES:
        legal = ", ".join(_PICTURES)
        raise BadParameter(f"{str(path)!r} is no picture, expected a name in {legal}")
    _check_file(path)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise BadParameter(f"{str(path)!r} is a folder, expected a file")
    _check_folder(path.parent)


def _check_folder(path: Path) -> None:
    """Make a folder where it is missing, and raise where nothing can be written in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadParameter(f"{str(path)!r} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise BadParameter(f"{str(path)!r} may not be written")
