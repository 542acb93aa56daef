"""Texts on a page: whatever a client may have made up is cut short and kept harmless.

Escaping is the template's work (autoescape, and ``tojson`` in the inlined data). What is left for
here are characters that are harmless to a browser and misleading to a reader: controls, and
marks that turn the direction of writing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

LONGEST = 200
"""Characters of a text that the page shows; the journal has the rest."""

MOST = 200
"""Different texts of one kind that the page carries per run."""

REST = "one of many further texts: the journal has it"


def shown(text: object, longest: int = LONGEST) -> str:
    r"""Return a text as the page shows it: one line, visible characters, not too long.

    Examples
    --------
    >>> shown("write\u202ebackwards") == "write\ufffdbackwards"
    True
    """
    line = " ".join(str(text)[: 2 * longest].split())
    clean = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


_FOLDERS = re.compile(r"(?<![\w./~])(?:~|[A-Za-z]:)?[/\\](?:[^\s:;,()'\"/\\]+[/\\])+")
"""The folders of an absolute path, up to the name at its end."""


def without_folders(text: str) -> str:
    """Return a text with the names alone of files that it names by their whole path.

    A page may be mailed: where things lie on somebody's machine is nobody else's business.

    Examples
    --------
    >>> without_folders("csv:/home/me/data/mine.csv (300 rows), 1 / 2")
    'csv:mine.csv (300 rows), 1 / 2'
    """
    return _FOLDERS.sub("", text)


def labels_of(places: Sequence[Path]) -> list[str]:
    """Return the name of each place, with as many folders before it as tell it from the others.

    Examples
    --------
    >>> labels_of([Path("/home/me/a/run"), Path("/home/me/b/run"), Path("/home/me/b/other")])
    ['a/run', 'b/run', 'other']
    """
    parts = [place.resolve().parts for place in places]
    return ["/".join(own[-_parts_needed(own, parts) :]) for own in parts]


def _parts_needed(own: tuple[str, ...], all_parts: Sequence[tuple[str, ...]]) -> int:
    others = [parts for parts in all_parts if parts != own]
    return next(
        (k for k in range(1, len(own)) if all(parts[-k:] != own[-k:] for parts in others)),
        len(own),
    )


class TextTable:
    """Texts by number, each kept once; beyond `MOST` all others share the number of `REST`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: object) -> int:
        """Return the number of a text."""
        clean = shown(text)
        if clean in self._numbers:
            return self._numbers[clean]
        if len(self._numbers) == MOST:
            self.texts[MOST:] = [REST]
            return MOST
        self._numbers[clean] = len(self.texts)
        self.texts.append(clean)
        return self._numbers[clean]
