"""The page: what is shown of runs, put into its template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flwr_krum.log import conclusion
from flwr_krum.report_page import tables
from flwr_krum.report_page.certified import CertifiedRounds, certified_series, of_run
from flwr_krum.report_page.html import render_page
from flwr_krum.report_page.series import series
from flwr_krum.report_page.shown import ShownRun
from flwr_krum.report_page.texts import shown

_HERE = Path(__file__).parent
_LONGEST_SENTENCE = 1000
"""Characters of what a run comes to: a certificate names clients."""

_SCRIPTS = ("parts.js", "curves.js", "certificates.js", "maps.js", "page.js")


def write_page(
    runs: Sequence[ShownRun], page: Path, judged: Sequence[CertifiedRounds] = ()
) -> None:
    """Write the page on some runs to a file, whose folder is made; see `render`."""
    html = render(runs, judged)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")


def render(runs: Sequence[ShownRun], judged: Sequence[CertifiedRounds] = ()) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    runs : at least one run
    judged : sequence of CertifiedRounds
        Certificates to show in the place of the runs' own: of rules on the replies of one run.
    """
    overview = tables.summary(runs)
    figures = list(zip(overview.columns, overview.rows[0], strict=True))
    return render_page(
        _HERE,
        _SCRIPTS,
        title=", ".join(shown(run.label) for run in runs[:4]) + (" …" if len(runs) > 4 else ""),
        summary=overview,
        figures=figures[1 : len(figures) - len(runs[0].setup)],
        is_known=all(run.byzantine is not None for run in runs),
        settings=tables.settings(runs),
        origins=tables.origins(runs),
        runs=[
            {
                "label": shown(run.label),
                "what": shown(run.what),
                "refusals": tables.refusals(run),
                "clients": tables.clients(run),
                "conclusion": [
                    shown(line, _LONGEST_SENTENCE)
                    for line in conclusion(run.reports, run.batch_size)
                ],
            }
            for run in runs
        ],
        data={
            "runs": [series(run) for run in runs],
            "certified": certified_series(judged or [of_run(run) for run in runs]),
        },
    )
