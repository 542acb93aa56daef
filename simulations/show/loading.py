"""A command line begins: what it needs takes seconds to load, in which Ctrl-C may come, too."""

from __future__ import annotations

import sys
from importlib import import_module

INTERRUPTED = 130
"""The exit code that a shell gives a command which Ctrl-C ended."""


def run_app(module: str) -> None:
    """Run the ``app`` of a module.

    Parameters
    ----------
    module : str
        The module's name; it is imported here.
    """
    try:
        app = import_module(module).app
    except KeyboardInterrupt:
        print("interrupted: nothing was begun", file=sys.stderr)
        sys.exit(INTERRUPTED)
    app()
