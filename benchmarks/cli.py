"""The command line of the benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
from benchmarks.conformance import page as conformance_page
from benchmarks.conformance.peers import peers
from benchmarks.conformance.samples import random_samples, tied_samples
from benchmarks.data import KINDS
from benchmarks.early import measured as spent_early
from benchmarks.early import table as early_table
from benchmarks.machine import describe
from benchmarks.memory import WAYS, measured
from benchmarks.memory import table as memory_table
from benchmarks.plan import FULL, QUICK, Plan, carry_out
from benchmarks.plot import picture
from benchmarks.results import Report
from benchmarks.rounds import WAYS as ROUNDS_WAYS
from benchmarks.rounds import measured as timed_rounds
from benchmarks.rounds import table as rounds_table
from benchmarks.simulators import SIMULATORS, SLOW, absent, compared
from benchmarks.tables import tables
from benchmarks.worst import DTYPES, SHAPES, search, table_of
from benchmarks.worst import page as worst_page
from flwr_krum.rules import RULES
from simulations.engines.engines import quiet_flower
from simulations.real.federation import FederationError
from simulations.real.flower import FlowerError
from simulations.show import places
from simulations.show.sentences import InSentences, say

app = typer.Typer(cls=InSentences, no_args_is_help=True, add_completion=False, help=__doc__)

FOLDER = Path("runs/benchmarks")
PAGE, PICTURE = Path("docs/performance.md"), Path("docs/images/performance.png")
CONFORMANCE = Path("docs/conformance.md")
WIDTH = 160
"""Columns where there is no terminal."""

Kind = Annotated[
    str, Option(click_type=click.Choice(tuple(KINDS)), help="How the clients' noise differs.")
]

Clients = Annotated[int, Option(min=3, max=10_000, help="Clients.")]
Parameters = Annotated[int, Option(min=1, max=10**9, help="Parameters, each of 4 bytes.")]
_ON_DISK: dict[str, Any] = {"exists": True, "file_okay": False, "writable": True}


def _some_of(known: Iterable[str]) -> Callable[[str], str]:
    """Return a check of names with commas between."""

    def check(text: str) -> str:
        for name in text.split(","):
            if name not in known:
                raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}")
        return text

    return check


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
def simulators(
    rounds: Annotated[
        int, Option(min=SLOW, help="A tenth of them in Flower's engine, which is slow.")
    ] = 300,
) -> None:
    """Run one federation in this package, in Flower's engine and in BlazeFL, and compare them."""
    console = Console(width=None if Console().is_terminal else WIDTH)
    console.print(compared(rounds))
    for name in SIMULATORS:
        if why := absent(name):
            console.print(f"did not take part: {name}: {why}", highlight=False, soft_wrap=True)


@app.command()
def worst(
    rules: Annotated[
        str, Option(help="Names of rules, with commas between.", callback=_some_of(RULES))
    ] = ",".join(RULES),
    random_attacks: Annotated[int, Option(min=0, help="Random attacks on each rule.")] = 4,
    page: Annotated[Path | None, places.page("Markdown page that gets the tables as well.")] = None,
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
def memory(
    folder: Annotated[Path, typer.Argument(help="On a disk: where replies go.", **_ON_DISK)],
    n: Clients = 16,
    d: Parameters = 12_500_000,
    f: Annotated[int, Option(min=0, help="Byzantine clients.")] = 3,
    ways: Annotated[
        str, Option(help="Some of the ways, with commas between.", callback=_some_of(WAYS))
    ] = ",".join(WAYS),
) -> None:
    """Measure memory and seconds of a round with and without a file for the replies."""
    found = [measured(way, n, d, f, folder) for way in ways.split(",")]
    Console(width=None if Console().is_terminal else WIDTH).print(memory_table(found, n, d))


@app.command()
def rounds(
    folder: Annotated[Path, typer.Argument(help="Gets keys and logs for a while.", **_ON_DISK)],
    nodes: Annotated[int, Option(min=3, max=100, help="SuperNodes.")] = 6,
    f: Annotated[int, Option(min=0, help="Byzantine clients.")] = 1,
    rounds: Annotated[int, Option(min=2, help="Rounds of each way.")] = 5,
    frozen: Annotated[int, Option(min=0, max=10**9, help="Parameters that all share.")] = 0,
    own: Annotated[int, Option(min=1, max=10**9, help="Parameters of each reply's own.")] = 10_000,
    ways: Annotated[
        str, Option(help="Some of the ways, with commas between.", callback=_some_of(ROUNDS_WAYS))
    ] = ",".join(ROUNDS_WAYS),
) -> None:
    """Measure seconds of rounds on a real SuperLink and SuperNodes, Flower's and this plugin's."""
    console = Console(width=None if Console().is_terminal else WIDTH)
    try:
        found = list(timed_rounds(folder, ways.split(","), nodes, f, rounds, frozen, own))
    except (FederationError, FlowerError) as error:
        say(console, error)
        raise typer.Exit(1) from error
    console.print(rounds_table(found))


@app.command()
def early(
    folder: Annotated[
        Path | None, Option(help="On a disk: where all replies go.", **_ON_DISK)
    ] = None,
    n: Clients = 16,
    d: Parameters = 10_000_000,
    f: Annotated[int, Option(min=0, help="Byzantine clients.")] = 3,
    repeats: Annotated[int, Option(min=1, help="Rounds of each kind.")] = 7,
    device: Annotated[str, Option(help="Where the arithmetic happens.")] = "cpu",
    kind: Kind = "heterogeneous",
) -> None:
    """Measure what is left to do when the last reply came, by turns begun early and not."""
    found = spent_early(n, d, f, kind, repeats, device, folder)
    Console(width=None if Console().is_terminal else WIDTH).print(early_table(found, n, d))


@app.command()
def render(report: Annotated[Path, typer.Argument()] = FOLDER / "full.json") -> None:
    """Write the page and the plot once more, from the file of a run."""
    _write(Report.load(report))


@app.command()
def conformance() -> None:
    """Compare every rule with other libraries', and write the page."""
    present, absent = peers()
    gc.freeze()  # Flower's records collect garbage one by one, and torch is much to look through
    with _progress() as tell, quiet_flower():
        found = list(
            conformance_page.sections(
                present, list(random_samples()), list(tied_samples()), tell=tell
            )
        )
    CONFORMANCE.write_text(conformance_page.page(found, present, absent))
    Console().print(f"page: {CONFORMANCE}", soft_wrap=True)


def _measure(plan: Plan, kind: str, file: Path) -> Report:
    with _progress() as tell:
        return carry_out(plan, kind=kind, tell=tell, done=lambda report: report.save(file))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show what is being done; it is told by a call."""
    columns: tuple[Any, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda text: progress.update(bar, description=text)


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
