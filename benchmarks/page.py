"""docs/performance.md: the part between the markers is made from a report."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import Report
from benchmarks.tables import tables

BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"


def write(report: Report, page: Path, picture: str) -> None:
    """Replace what stands between the markers of a page.

    Parameters
    ----------
    report : Report
    page : Path
        Exists and holds both markers once.
    picture : str
        The plot, relative to the page.

    Raises
    ------
    ValueError
        If a marker is missing or stands twice.
    """
    page.write_text(replaced(page.read_text(), block(report, picture)))


def replaced(text: str, made: str) -> str:
    """Return a page's text with what was made between its markers.

    Raises
    ------
    ValueError
        If a marker is missing or stands twice.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"expected {BEGIN!r} and {END!r} once each, in this order")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def block(report: Report, picture: str) -> str:
    """Return the tables, the picture and the machine as Markdown."""
    absent = [f"- {name}: {why}" for name, why in report.absent.items()]
    parts = [
        f"![Krum's processor time over d and n and its extra memory, by library]({picture})\n",
        *(table.markdown() for table in tables(report)),
        "### Where this was measured\n",
        *(f"- {name}: {value}" for name, value in report.machine.items()),
        *(["", "Did not take part:", "", *absent] if absent else []),
        "",
    ]
    return "\n".join(parts)
