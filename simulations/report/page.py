"""The page: what is shown of runs, put into its template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flwr_krum.log import conclusion
from simulations.report import tables
from simulations.report.certified import CertifiedRounds, certified_series, of_run
from simulations.report.runs import read_runs
from simulations.report.series import series
from simulations.report.shown import ShownRun
from simulations.report.texts import shown
from simulations.show.html import render_page

_HERE = Path(__file__).parent
_LONGEST_SENTENCE = 1000
"""Characters of what a run comes to: a certificate names clients."""

_SCRIPTS = ("parts.js", "curves.js", "certificates.js", "maps.js", "page.js")


def write_report(
    folders: Sequence[Path], page: Path, judged: Sequence[CertifiedRounds] = ()
) -> None:
    """Write the report on the runs in the given folders.

    Parameters
    ----------
    folders : at least one run folder
    page : Path
        The HTML file; its folder is made.
    judged : sequence of CertifiedRounds
        Certificates to show in the place of the runs' own: of rules on the replies of one run.

    Raises
    ------
    ValueError
        If a folder does not hold a run that can be read.
    """
    html = render(read_runs(folders), judged)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")


def render(runs: Sequence[ShownRun], judged: Sequence[CertifiedRounds] = ()) -> str:
    """Return the page as HTML; see `write_report`."""
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
