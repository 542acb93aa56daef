"""``python -m flwr_krum.report_page``: the page on runs of which there is nothing but a journal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _check_is_no_journal(options.page, options.journals)
        _write(options.journals, options.page)
    except (ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(f"report: {options.page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m flwr_krum.report_page",
        description="Write one HTML page about the runs with these journals.",
    )
    parser.add_argument("journals", nargs="+", type=Path, metavar="JOURNAL")
    parser.add_argument(
        "--page", type=Path, default=Path("report.html"), help="default: %(default)s"
    )
    return parser


def _check_is_no_journal(page: Path, journals: Sequence[Path]) -> None:
    """Raise ValueError if the page would take the place of a journal, under whatever name."""
    for journal in journals:
        if page.exists() and journal.exists() and page.samefile(journal):
            raise ValueError(f"--page {page} is the journal {journal}, expected another file")


def _write(journals: Sequence[Path], page: Path) -> None:
    try:
        from flwr_krum.report_page.render import write_page
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'flwr-krum[report]'") from error
    from flwr_krum.report_page.journals import read_journals

    write_page(read_journals(journals), page)
