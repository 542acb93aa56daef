"""``python -m simulations arena``: every rule against every attack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from clients.fields import key_of
from flwr_krum.kernel.threads import cores
from simulations.arena.make import ARENA, Made, make, publish
from simulations.arena.plan import ALL, DECIDED, NAMES, arena_of, read_file
from simulations.arena.words import behind, interval, outcome
from simulations.engines.kept import DATA
from simulations.engines.making import Making
from simulations.engines.ray_tasks import HERE
from simulations.run.config import run_settings
from simulations.show import places
from simulations.show.options import command_again, given_options, with_settings
from simulations.show.terminal import one_of

OLD = ("gaussian_variance", "omniscient_factor", "omniscient_examples", "fault", "m")
"""Settings that are deprecated: the calls of rules and attacks have them."""

USUAL = {"f": 4, "split": "dirichlet(alpha=1.0)"}
"""Where an arena has other defaults than a run."""

_ON = Option(
    help=f"{HERE}, or a Ray cluster's address such as {HERE}://HOST:10001, HOST:6379 or auto: each "
    "run is a task there.",
    show_default=False,
)
_DATA = one_of(DATA, "Copies inside packages, or the originals.")
_SETTINGS = [name for name in run_settings() if key_of(name) not in DECIDED and name not in OLD]


@with_settings(_SETTINGS, USUAL)
def arena(
    options: dict[str, Any],
    file: Annotated[
        str,
        Argument(
            metavar="NAME|FILE.toml",
            help="Says rules, attacks, rounds, seeds, [settings]; options go before it. "
            f"{', '.join(NAMES)} come along.",
            show_default=False,
        ),
    ] = "",
    rules: Annotated[
        list[str], Option(help=f"Rules with ; between them, or {ALL}; may be repeated.")
    ] = [ALL],  # noqa: B006
    attacks: Annotated[
        list[str], Option(help=f"Attacks with ; between them, or {ALL}; may be repeated.")
    ] = [ALL],  # noqa: B006
    rounds: Annotated[int, Option(min=1, help="Rounds of each run.")] = 300,
    seeds: Annotated[int, Option(min=1, help="How many; a run for each.")] = 3,
    first_seed: Annotated[int, Option(min=0, help="The first of the seeds.")] = 0,
    data: Annotated[str, _DATA] = DATA[0],
    data_dir: Annotated[str, Option(help="Folder of the originals.")] = "data",
    out: Annotated[Path, places.folder("Folder of the results.")] = Path("runs/arena"),
    processes: Annotated[int, Option(min=0, help="Runs at a time; 0 is one per core.")] = 0,
    on: Annotated[str, _ON] = "",
    page: Annotated[Path | None, places.page("Markdown page that gets the table too.")] = None,
) -> None:
    """Run every rule against every attack, and rank the rules by their worst case.

    Finished runs are kept: an interrupted arena goes on where it stopped.
    """
    given = given_options()
    asked = {"rules": rules, "attacks": attacks, "rounds": rounds, "seeds": seeds}
    table = read_file(file) if file else {}
    written = {name: value for name, value in table.items() if name not in given}
    settings = {
        **options,
        **table.get("settings", {}),
        **{key: value for key, value in options.items() if key.replace("-", "_") in given},
    }
    plan = arena_of(**{**asked, **written, "settings": settings}, first_seed=first_seed)
    making = Making(out, data, data_dir, processes or cores(), on)
    name = Path(file).stem.replace(".", "-") if file else ARENA  # a dot would begin a suffix
    made = make(plan, making, command_again("arena", last=file), name)
    _show(Console(), made)
    if page is not None:
        publish(made, page)


def _show(console: Console, made: Made) -> None:
    table = Table(
        title="rules by their worst case",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("rule", "worst", "95 % interval", "under", "behind", "no attack"):
        is_name = column in ("rule", "under")
        table.add_column(column, overflow="fold", no_wrap=not is_name)
    for standing in made.standings:
        worst, peace = standing.worst, standing.results[0]
        if worst.scores:
            last = interval(worst.last_interval)
            under = (outcome(worst), last, worst.attack, behind(standing.behind))
            table.add_row(standing.rule, *under, outcome(peace))
    console.print(table)
    for standing in made.standings:
        if standing.worst.reason:
            console.print(f"{standing.rule} {outcome(standing.worst)}", soft_wrap=True)
    for name, why in made.facts.left_out.items():
        console.print(f"left out: {name}, {why}", soft_wrap=True, highlight=False)
    console.print(str(made.facts.effort), highlight=False)
    console.print(f"table, picture and page: {made.stem}.html, .png, .csv", soft_wrap=True)
