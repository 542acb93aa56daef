"""The page: a jinja2 template with its data, style and script inlined.

Nothing is fetched, and the page forbids it itself: its content security policy names the hashes
of its one style and its one script, so that even a text that slipped through the escaping could
neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flwr_krum.log import conclusion
from simulations.report import tables
from simulations.report.runs import Run, read_runs
from simulations.report.series import series
from simulations.report.texts import shown

_HERE = Path(__file__).parent
_LONGEST_SENTENCE = 1000
"""Characters of what a run comes to: a certificate names clients."""

_SCRIPTS = ("parts.js", "curves.js", "maps.js", "page.js")


def write_report(folders: Sequence[Path], page: Path) -> None:
    """Write the report on the runs in the given folders.

    Parameters
    ----------
    folders : at least one run folder
    page : Path
        The HTML file; its folder is made.

    Raises
    ------
    ValueError
        If a folder does not hold a run that can be read.
    """
    html = render(read_runs(folders))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")


def render(runs: Sequence[Run]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        # The two are ours, and must stay as they are for their hashes to fit.
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        title=", ".join(shown(run.label) for run in runs[:4]) + (" …" if len(runs) > 4 else ""),
        summary=tables.summary(runs),
        settings=tables.settings(runs),
        origins=tables.origins(runs),
        runs=[
            {
                "label": shown(run.label),
                "what": _what(run),
                "refusals": tables.refusals(run),
                "clients": tables.clients(run),
                "conclusion": [
                    shown(line, _LONGEST_SENTENCE)
                    for line in conclusion(run.reports, run.config.settings.batch_size)
                ],
            }
            for run in runs
        ],
        data=[series(run) for run in runs],
    )


def _what(run: Run) -> str:
    """Say in a line what a run was."""
    settings = run.config.settings
    attackers = len(run.byzantine)
    attack = f"{attackers} of them {settings.attack}" if attackers else "no attack"
    return f"{run.config.rule} on {settings.task}, {settings.num_clients} clients, {attack}"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
