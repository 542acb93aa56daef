"""Parts of a class's docstring, as a page has them."""

from __future__ import annotations

import inspect
import re


def first_sentence(kind: type) -> str:
    """Return the paragraph that says what only this class does, on one line."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def explanation(kind: type) -> str:
    """Return what stands between the first paragraph and the first section."""
    before, *_ = re.split(r"\n\n[A-Z][\w ]*\n-+\n", inspect.cleandoc(kind.__doc__ or ""))
    return before.partition("\n\n")[2].strip()


def section(kind: type, title: str) -> str:
    """Return the lines of a section as plain text, empty where there is none."""
    text = inspect.cleandoc(kind.__doc__ or "")
    found = re.search(rf"(?:^|\n){title}\n-+\n(.*?)(?=\n\n?[A-Z][\w ]*\n-+\n|\Z)", text, re.DOTALL)
    return found[1].strip().replace("``", "") if found else ""
