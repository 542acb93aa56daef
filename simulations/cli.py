"""The command line: ``python -m simulations run``, ``report``, ``demo`` and more."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from clients.settings import Settings
from flwr_krum.journal import read_journal
from flwr_krum.log import conclusion
from flwr_krum.resilience import eta
from flwr_krum.rules import MIXINGS, RULES, Krum
from simulations.arena.command import arena
from simulations.certify.command import certify
from simulations.engines.engines import ENGINES, quiet_flower
from simulations.engines.engines import run as run_engine
from simulations.engines.on_ray import Backend, read_backend
from simulations.figures.command import figure
from simulations.published.command import published
from simulations.real.command import add_real
from simulations.report import write_report
from simulations.run.config import RunConfig, run_settings
from simulations.run.history import (
    JOURNAL_FILE,
    RoundRecord,
    final_window,
    read_history,
    window_mean,
)
from simulations.show import attacks as attack_pages
from simulations.show import places, splits
from simulations.show.options import with_settings
from simulations.show.pages import with_block
from simulations.show.plots import accuracy_curves
from simulations.show.rules import COLUMNS, MAPS, PAGE, markdown_page, objects, rows
from simulations.show.sentences import InSentences
from simulations.show.terminal import add_run, entries, one_of, progress_bar, rounds_bar, show
from simulations.studies import certificates as certificates_study
from simulations.studies import waiting as waiting_study
from simulations.studies import worst_page
from simulations.studies.accidents import section as accidents_section
from simulations.studies.demo import demo as run_demo
from simulations.studies.lemma_2 import exponents
from simulations.studies.proposition_1 import Cloud, Z, angle_picture, lemma_1, measure_attacks
from simulations.studies.speed import speed
from simulations.studies.survival import survey, write_page
from simulations.studies.worst_records import ALL, examine_all, keep

# A laboratory reports to nobody unless its user says so.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

OF_A_SPLIT = (
    *("task", "split", "holders", "num_clients", "f", "seed", "folds", "fold"),
    *("data_dir", "download"),
)
"""The settings that decide who holds what."""

_SEED = Option(min=0, max=2**32 - 1, help="Decides every draw.")
_JSON = Option("--json", help="Print a list of objects, for programs.")

app = typer.Typer(cls=InSentences, no_args_is_help=True, add_completion=False, help=__doc__)
app.command()(arena)
app.command()(certify)
app.command()(figure)
app.command()(published)
app.command()(speed)


@app.command()
@with_settings(name for name in run_settings() if name != "roles")  # of nodes, here are none
def run(
    options: dict[str, Any],
    engine: Annotated[
        str, one_of(ENGINES, "Where clients run; inprocess and ray give the same model bytes.")
    ] = ENGINES[0],
    backend: Annotated[
        str, Option(help="Flower's backend configuration as JSON, for the engine ray.")
    ] = "",
) -> None:
    """Run one federation and write its history, model and accuracy curve into the run folder."""
    console = Console()
    config = RunConfig.from_config(options)
    _run_with_bar(config, engine, read_backend(backend))
    _conclude(config, console)


@app.command()
@with_settings(OF_A_SPLIT)
def split(
    options: dict[str, Any],
    picture: Annotated[Path | None, places.picture()] = None,
) -> None:
    """Show who holds which examples under a split: a table, and a picture of dots."""
    console = Console()
    settings = Settings.from_config(options)
    counts = splits.counts_of(settings)
    title = f"{settings.task}, {settings.split}, {len(counts)} clients"
    console.print(splits.terminal_table(counts, title))
    if picture is not None:
        splits.picture(counts, title, picture)
        console.print(f"picture: {picture}", soft_wrap=True)


@app.command()
def report(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Run folders.")],
    page: Annotated[Path, places.page("HTML page to write.")] = Path("runs/report.html"),
) -> None:
    """Write a page about one run or several: curves, selections, refusals and the guarantee."""
    write_report(runs, page)
    Console().print(f"report: {page}", soft_wrap=True)


@app.command()
def survive(
    page: Annotated[Path, places.page("Markdown page to write.")] = Path("docs/survival.md"),
) -> None:
    """Send malformed replies to our strategies and Flower's own, and tabulate who survives them."""
    with quiet_flower(level=100):
        accidents = accidents_section()
    write_page(page, survey(), accidents)
    Console().print(page.read_text(), soft_wrap=True)


@app.command()
def certificates(
    rounds: Annotated[int, Option(min=1, help="Rounds of each attack.")] = 200,
    seed: Annotated[int, _SEED] = 0,
    page: Annotated[Path | None, places.page("Markdown page that gets the table.")] = None,
) -> None:
    """Count how often each rule's certificate holds under attack, and hold it against the truth."""
    console = Console()
    with rounds_bar(list(certificates_study.ATTACKS), rounds) as watch:
        found = certificates_study.study(rounds, seed, watch)
    command = "python -m simulations certificates"
    command += f" --rounds {rounds}" if rounds != 200 else ""
    command += f" --seed {seed}" if seed else ""
    block = certificates_study.markdown(found, rounds, command)
    console.print(block, soft_wrap=True, highlight=False, markup=False)
    if page is not None:
        before = page.read_text() if page.exists() else ""
        page.write_text(with_block(before, "certificates under attack", block))
        console.print(f"page: {page}", soft_wrap=True)


@app.command()
def waiting(
    rounds: Annotated[int, Option(min=1, help="Rounds that are drawn.")] = 200,
    seed: Annotated[int, Option(min=0)] = 0,
    page: Annotated[Path | None, places.page("Markdown page that gets the table.")] = None,
) -> None:
    """Measure what rounds cost that close at a quorum, where slow nodes have other data."""
    command = "python -m simulations waiting"
    command += f" --rounds {rounds}" if rounds != 200 else ""
    command += f" --seed {seed}" if seed else ""
    block = waiting_study.markdown(waiting_study.study(rounds, seed), rounds, command)
    Console().print(block, soft_wrap=True, highlight=False, markup=False)
    if page is not None:
        before = page.read_text() if page.exists() else ""
        page.write_text(with_block(before, "what a quorum costs", block))


@app.command()
def rules(
    markdown: Annotated[bool, Option("--markdown", help="Print the page instead.")] = False,
    write: Annotated[bool, Option("--write", help=f"Write the page into {PAGE}.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Print what every rule and mixing needs, bears and costs, and which maps it follows."""
    console = Console()
    if write:
        PAGE.write_text(markdown_page())
        console.print(f"page: {PAGE}")
    elif markdown:
        typer.echo(markdown_page(), nl=False)
    elif as_json:
        typer.echo(json.dumps(objects(), indent=2))
    else:
        console.print(entries("rules", COLUMNS, rows(RULES)))
        console.print()
        console.print(entries("mixings, before a rule", COLUMNS, rows(MIXINGS)))
        console.print(f"\nmaps that each follows: {MAPS}", highlight=False)


@app.command()
def attacks(
    write: Annotated[
        bool, Option("--write", help=f"Write the pages into {attack_pages.FOLDER}.")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Print what every attack sends, must see, breaks, and what stands it."""
    console = Console()
    if write:
        attack_pages.write()
        console.print(f"pages: {attack_pages.FOLDER}")
    elif as_json:
        typer.echo(json.dumps(attack_pages.objects(), indent=2))
    else:
        console.print(entries("attacks", attack_pages.COLUMNS, attack_pages.rows()))


@app.command("worst-kappa")
def worst_kappa(
    rules: Annotated[
        list[str], Option("--rules", "--rule", help=f"Rules with ; between them, or {ALL}.")
    ] = [ALL],  # noqa: B006 (typer reads it)
    n: Annotated[int, Option("-n", min=3, help="Clients.")] = 20,
    f: Annotated[int, Option("-f", min=1, help="Liars among them.")] = 6,
    budget: Annotated[int, Option(min=100, help="Inputs that a search tries.")] = 6000,
    seed: Annotated[int, Option(min=0, help="The first of the seeds.")] = 0,
    seeds: Annotated[int, Option(min=1, help="Searches beside each other.")] = 3,
    write: Annotated[
        bool, Option("--write", help=f"Keep the inputs, and tell of them in {worst_page.PAGE}.")
    ] = False,
) -> None:
    """Search for the replies that bring a rule farthest from the mean of the honest."""
    console = Console()
    found = examine_all(rules, n, f, budget, range(seed, seed + seeds), console.print)
    console.print(worst_page.terminal_table(found))
    if write:
        keep(found, n, f)
        worst_page.PAGE.write_text(worst_page.with_records(worst_page.PAGE.read_text()))
        console.print(f"page: {worst_page.PAGE}")


@app.command()
def resilience(
    n: Annotated[int, Option("-n", min=3, max=10_000, help="Clients.")] = 20,
    f: Annotated[int, Option("-f", min=0, help="Byzantine ones.")] = 6,
    d: Annotated[int, Option("-d", min=1, max=10**6, help="Coordinates.")] = 50,
    sigma: Annotated[float, Option(min=0, help="Deviation of one coordinate; |g| is 1.")] = 0.005,
    draws: Annotated[int, Option(min=2, max=10**6, help="Clouds per attack.")] = 2000,
    seed: Annotated[int, _SEED] = 0,
    picture: Annotated[Path, places.picture()] = Path("runs/resilience/angle.png"),
) -> None:
    """Put Proposition 1 to the test: Krum's mean answer under attack, beside its bound."""
    console = Console()
    cloud = Cloud(n, f, d, sigma)
    table = Table(
        title=f"n={n} f={f} d={d} sigma={sigma:g}: eta={eta(n, f):.3g} sin(alpha)={cloud.sine:.3g}"
    )
    for column in ("attack", "<E KR, g>", f"+- {Z:g} s.e.", "bound", "moments r=2,3,4", "chosen"):
        table.add_column(column)
    for result in measure_attacks(Krum(f), cloud, draws, seed):
        table.add_row(
            result.attack,
            f"{result.alignment:.4f}",
            f"{Z * result.error:.4f}",
            f"{cloud.bound:.4f} {'respected' if result.respects(cloud.bound) else 'BROKEN'}",
            " ".join(f"{moment:.2f}" for moment in result.moments),
            f"{result.chosen:.0%}",
        )
    console.print(table)
    error, honest = lemma_1(d, n, f, seed)
    console.print(f"Lemma 1: one client steers the average to its target within {error:.1e};")
    console.print(f"krum, given the same vectors, picks an honest one: {honest}")
    angle_picture(picture, n, d, sigma, max(50, draws // 10), seed)
    console.print(f"picture: {picture}", soft_wrap=True)


@app.command()
def cost() -> None:
    """Fit the exponents of Krum's time in n and d (Lemma 2: at most 2, and 1)."""
    over_n, over_d = exponents()
    Console().print(f"time grows as n^{over_n.exponent:.2f} (+- {2 * over_n.error:.2f})")
    Console().print(f"time grows as d^{over_d.exponent:.2f} (+- {2 * over_d.error:.2f})")


@app.command()
def demo(
    rounds: Annotated[int, Option(min=1, help="Rounds of each run.")] = 500,
    seed: Annotated[int, _SEED] = 0,
    folder: Annotated[Path, places.folder("Folder of the results.")] = Path("runs/demo"),
) -> None:
    """Train on spam with a third of the clients hostile, once per rule, and once in peace."""
    run_demo(folder, rounds, seed)


def _run_with_bar(config: RunConfig, engine: str, backend: Backend) -> None:
    with quiet_flower(), progress_bar() as progress:
        attack = config.settings.attack
        label = config.rule if attack == "none" else f"{config.rule} / {attack}"
        line = add_run(progress, label, config.num_server_rounds)

        def observer(record: RoundRecord) -> None:
            show(progress, line, record)

        run_engine(config, engine, observer, backend)


def _conclude(config: RunConfig, console: Console) -> None:
    folder = Path(config.run_dir)
    history = read_history(folder)
    first, last = final_window(config.num_server_rounds)
    hostile = sum(record.byzantine_selected > 0 for record in history)
    skipped = sum(not record.stepped for record in history[1:])
    accuracy = window_mean(history, first, last)
    picture = folder / "accuracy.png"
    accuracy_curves({config.rule: history}, [config.rule], config.settings.task, picture)
    console.print(f"accuracy over rounds {first} to {last}: {accuracy:.4f}")
    if (success := history[-1].attack_success) is not None:
        console.print(f"success of the backdoor in round {history[-1].round}: {success:.4f}")
    console.print(f"rounds with a Byzantine client selected: {hostile} of {last}")
    if skipped:
        console.print(f"rounds without a step: {skipped} (see the journal)")
    for line in conclusion(read_journal(folder / JOURNAL_FILE), config.settings.batch_size):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"history, model and picture: {folder}", soft_wrap=True)


add_real(app, _conclude)
