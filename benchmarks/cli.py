"""The command line: ``python -m benchmarks quick``, ``full``, ``render`` and ``worst``."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer import Option

# Before anything imports Flower: a benchmark reports to nobody.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from benchmarks import page
from benchmarks.data import KINDS
from benchmarks.machine import describe
from benchmarks.plan import FULL, QUICK, Plan, carry_out
from benchmarks.plot import picture
from benchmarks.results import Report
from benchmarks.tables import tables
from benchmarks.worst import DTYPES, SHAPES, search, table_of
from benchmarks.worst import page as worst_page
from flwr_krum.rules import RULES

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

FOLDER = Path("runs/benchmarks")
PAGE, PICTURE = Path("docs/performance.md"), Path("docs/images/performance.png")
WIDTH = 160
"""Columns where there is no terminal."""

Kind = Annotated[
    str, Option(click_type=click.Choice(tuple(KINDS)), help="How the clients' noise differs.")
]


@app.command()
def quick(kind: Kind = "heterogeneous") -> None:
    """Measure small sizes in less than a minute, and print the tables."""
    _show(_measure(QUICK, kind, FOLDER / "quick.json"))


@app.command()
def full(kind: Kind = "heterogeneous") -> None:
    """Measure everything, print the tables, and write them and a plot into the docs."""
    report = _measure(FULL, kind, FOLDER / "full.json")
    _show(report)
    _write(report)


@app.command()
def worst(
    rules: Annotated[str, Option(help="Names of rules, with commas between.")] = ",".join(RULES),
    random_attacks: Annotated[int, Option(min=0, help="Random attacks on each rule.")] = 4,
    page: Annotated[Path | None, Option(help="Where the tables are written as well.")] = None,
) -> None:
    """Search for replies that hold a round back, and print the worst of each rule."""
    console = Console(width=None if Console().is_terminal else WIDTH)
    made = []
    for (n, d), dtype in product(SHAPES, DTYPES):
        found = search(n, d, dtype, rules.split(","), random_attacks, tell=lambda _: None)
        made.append(table_of(n, d, dtype, found))
        console.print(made[-1].rich())
    if page is not None:
        page.write_text(worst_page(made, describe({})))


@app.command()
def render(report: Annotated[Path, typer.Argument()] = FOLDER / "full.json") -> None:
    """Write the page and the plot once more, from the file of a run."""
    _write(Report.load(report))


def _measure(plan: Plan, kind: str, file: Path) -> Report:
    columns: tuple[Any, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("", total=None)
        return carry_out(
            plan,
            kind=kind,
            tell=lambda text: progress.update(bar, description=text),
            done=lambda report: report.save(file),
        )


def _show(report: Report) -> None:
    console = Console(width=None if Console().is_terminal else WIDTH)
    for name, value in report.machine.items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    for table in tables(report):
        console.print(table.rich())
    for name, why in report.absent.items():
        console.print(f"did not take part: {name}: {why}", highlight=False, soft_wrap=True)


def _write(report: Report) -> None:
    picture(report, PICTURE)
    page.write(report, PAGE, PICTURE.relative_to(PAGE.parent).as_posix())
    Console().print(f"page: {PAGE}, picture: {PICTURE}", soft_wrap=True)
