"""The report on run folders, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flwr_krum.report_page.certified import CertifiedRounds
from flwr_krum.report_page.render import write_page
from simulations.report.runs import read_runs


def write_report(
    folders: Sequence[Path], page: Path, judged: Sequence[CertifiedRounds] = ()
) -> None:
    """Write the report on the runs in the given folders.

    Parameters
    ----------
    folders : at least one run folder
    page : Path
    judged : sequence of CertifiedRounds
        As for `write_page`.

    Raises
    ------
    ValueError
        If a folder does not hold a run that can be read.
    """
    write_page(read_runs(folders), page, judged)
