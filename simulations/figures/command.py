"""``python -m simulations figure``: run, draw and judge a figure of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from flwr_krum.kernel.threads import cores
from simulations.engines.kept import DATA
from simulations.engines.making import Making
from simulations.figures.experiment import NAMES, load_experiment
from simulations.figures.facts import facts
from simulations.figures.make import Amount, Made, make, publish
from simulations.figures.page import facts_block, number, update_page
from simulations.figures.verdicts import Verdict
from simulations.run.intervals import Outcome
from simulations.show import places
from simulations.show.options import command_again
from simulations.show.terminal import one_of

FACTS, ALL = "U1", "all"

_COLOURS = {
    Outcome.HOLDS: "green",
    Outcome.PARTLY: "yellow",
    Outcome.FAILS: "red",
    Outcome.UNKNOWN: "dim",
}
_NAME = Argument(
    metavar="NAME|FILE.toml",
    help=f"{', '.join(NAMES)}, {FACTS} or {ALL}; K and A are ours. Or a file of your own.",
)
_OUT = places.folder("Folder of the results.", "--out", "--run-dir")
_DATA = one_of(DATA, "Copies inside packages, or the originals.")


def figure(
    name: Annotated[str, _NAME],
    seeds: Annotated[int, Option(min=0, help="How many; 0 is the figure's own number.")] = 0,
    first_seed: Annotated[int, Option(min=0, help="The first of the seeds.")] = 0,
    rounds: Annotated[int, Option(min=0, help="Rounds; 0 is the figure's own.")] = 0,
    folds: Annotated[int, Option(min=0, help="k of a k-fold cross-validation.")] = 0,
    data: Annotated[str, _DATA] = DATA[0],
    data_dir: Annotated[str, Option(help="Folder of the originals.")] = "data",
    out: Annotated[Path, _OUT] = Path("runs/figures"),
    processes: Annotated[int, Option(min=0, help="Runs at a time; 0 is one per core.")] = 0,
    page: Annotated[Path | None, places.page("Markdown page that gets the figure too.")] = None,
) -> None:
    """Run an experiment of the paper, draw it, and say which of its claims hold.

    Finished runs are kept: an interrupted figure goes on where it stopped, and figures share runs.
    """
    console = Console()
    amount = Amount(seeds, rounds, folds, first_seed)
    making = Making(out, data, data_dir, processes or cores())
    for each in NAMES if name == ALL else [name] * (name != FACTS):
        experiment = load_experiment(each)
        made = make(experiment, amount, making, command_again("figure", experiment.called))
        _show(console, made)
        if page is not None:
            publish(experiment, made, page)
    if name in (FACTS, ALL):
        _show_facts(console)
        if page is not None:
            update_page(page, FACTS, facts_block(facts()))


def _show(console: Console, made: Made) -> None:
    short = [verdict for verdict in made.verdicts if verdict.is_too_short]
    for verdict in made.verdicts:
        if verdict not in short:
            _show_verdict(console, verdict)
    if short:
        names = ", ".join(verdict.statement.id for verdict in short)
        needed = max(verdict.rounds_needed for verdict in short)
        line = f"{names}: too short to tell, these claims count from {needed} rounds on"
        console.print(line, soft_wrap=True, highlight=False)
    provenance = made.provenance
    console.print(f"{provenance.protocol}; {provenance.band}", soft_wrap=True, highlight=False)
    console.print(str(provenance.effort), highlight=False)
    console.print(f"picture, raw numbers and page: {made.picture.parent}", soft_wrap=True)


def _show_verdict(console: Console, verdict: Verdict) -> None:
    colour = _COLOURS[verdict.outcome]
    heading = (
        f"[bold]{verdict.statement.id} [{colour}]{verdict.outcome}[/]:[/] {verdict.statement.says}"
    )
    console.print(heading, highlight=False)
    for finding in verdict.findings:
        found = finding.note
        if (interval := finding.interval) is not None:
            ends = (interval.mean, interval.low, interval.high)
            found = "{} ({} to {})".format(*(number(x, finding.check) for x in ends))
        outcome = f"[{_COLOURS[finding.outcome]}]{finding.outcome:<14}[/]"
        line = f"  {outcome} {found}, {finding.check.bounds}: {finding.check.label}"
        console.print(line, soft_wrap=True, highlight=False)


def _show_facts(console: Console) -> None:
    table = Table(title="U1: what the paper fixes exactly", title_justify="left")
    for column in ("fact", "expected", "found", ""):
        table.add_column(column)
    for fact in facts():
        outcome = Outcome.HOLDS if fact.holds else Outcome.FAILS
        table.add_row(fact.says, fact.expected, fact.found, f"[{_COLOURS[outcome]}]{outcome}[/]")
    console.print(table)
