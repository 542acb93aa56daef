"""The pages of the repository, and what is in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "docs/attacks/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
"""Every page that somebody reads; those of the rules are made with the site."""


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language="python"):
    """Return the blocks of code of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE)


def block(page, word):
    """Return the one block of Python of a page that a word stands in."""
    (found,) = (text for text in blocks(page) if word in text)
    return found


def prose(page):
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """Return the anchors of a page's headings, as a repository's view makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def links(page):
    """Return where the links and pictures of a page lead, but for those out of the repository."""
    found = re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`]*`", "", prose(page)))
    return [link for link in found if not re.match(r"\w+:", link)]
