"""Texts on a page: whatever a client may have made up is cut short and kept harmless.

Escaping is the template's work (autoescape, and ``tojson`` in the inlined data). What is left for
here are characters that are harmless to a browser and misleading to a reader: controls, and
marks that turn the direction of writing.
"""

from __future__ import annotations

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
