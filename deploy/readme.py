"""The README as a package index shows it, where a link needs its whole address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)(\[[^][]*\])\((?!\w+:|#)([^)\s]+)\)")
"""A link or a picture of Markdown to a file of the repository."""


def with_whole_links(text: str, source: str) -> str:
    """Return Markdown whose links lead from anywhere to the repository, pictures to their bytes.

    Parameters
    ----------
    text : str
    source : str
        The repository's address; without one the links stay as they are.
    """
    base = source.rstrip("/")

    def whole(link: re.Match[str]) -> str:
        is_picture, label, path = link.groups()
        place = "raw" if is_picture else "blob"
        return f"{is_picture}{label}({base}/{place}/HEAD/{path})"

    return LINK.sub(whole, text) if base else text


class WholeLinks(MetadataHookInterface):
    """Gives the metadata that README; hatchling calls it when it builds."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the README into the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source", "")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_whole_links(text, source),
        }
