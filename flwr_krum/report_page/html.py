"""HTML pages of one file: a jinja2 template with its data, style and script inlined.

Nothing is fetched, and a page forbids it itself: its content security policy names the hashes of
its one style and its one script, so that even a text that slipped through the escaping could
neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

PAPER = Path(__file__).with_name("paper.css")
"""What all pages look like; beside it lies what their scripts have in common."""


def render_page(folder: Path, scripts: Sequence[str], **values: Any) -> str:
    """Return a page as HTML.

    Parameters
    ----------
    folder : Path
        Holds ``page.html.j2``, the scripts, and ``page.css``: what the page looks like beyond
        `PAPER`.
    scripts : sequence of str
        Their file names, in their order.
    **values
        What the template shows; besides it gets ``style`` and ``script``, the hashes of both, and
        ``written``, the time of day.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    styles = (PAPER, folder / "page.css")
    style = "\n".join(path.read_text(encoding="utf-8") for path in styles)
    sources = (PAPER.with_suffix(".js"), *(folder / name for name in scripts))
    script = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return environment.get_template("page.html.j2").render(
        # The two are ours, and must stay as they are for their hashes to fit.
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
