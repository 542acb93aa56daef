"""``python -m simulations published``: run a published table again, and compare cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from flwr_krum.kernel.threads import cores
from simulations.engines.making import Making
from simulations.published.make import Amount, Made, make, verdict
from simulations.published.markdown import summary, table_block
from simulations.published.table import NAMES, load_table
from simulations.show import places
from simulations.show.options import command_again
from simulations.show.pages import with_block

_NAME = Argument(
    metavar="NAME|FILE.toml", help=f"{', '.join(NAMES)}; or a file of your own.", show_default=False
)
_ON = Option(help="As for arena: each run is a task of Ray.", show_default=False)


def published(
    name: Annotated[str, _NAME],
    parts: Annotated[
        list[str] | None, Option(help="A part of the table; may be repeated. By default all.")
    ] = None,
    seeds: Annotated[int, Option(min=0, help="How many; 0 is the table's own number.")] = 0,
    first_seed: Annotated[int, Option(min=0, help="The first of the seeds.")] = 0,
    rounds: Annotated[int, Option(min=0, help="Rounds; 0 is the table's own.")] = 0,
    data_dir: Annotated[
        str, Option(help="Folder of the originals; MNIST is downloaded where it is missing.")
    ] = "data",
    out: Annotated[Path, places.folder("Folder of the results.")] = Path("runs/published"),
    processes: Annotated[int, Option(min=0, help="Runs at a time; 0 is one per core.")] = 0,
    on: Annotated[str, _ON] = "",
    page: Annotated[Path | None, places.page("Markdown page that gets the table too.")] = None,
) -> None:
    """Run a published table again under its own settings, and say which cells agree.

    Finished runs are kept: an interrupted table goes on where it stopped, and a part that was run
    is there when all are.
    """
    table = load_table(name)
    amount = Amount(tuple(parts or ()), seeds, rounds, first_seed)
    making = Making(out, table.data, data_dir, processes or cores(), on)
    made = make(table, amount, making, command_again("published", name))
    block = table_block(made)
    made.stem.with_suffix(".md").write_text(block, encoding="utf-8")
    _show(Console(), made)
    if page is not None:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        page.write_text(with_block(text, table.name, block), encoding="utf-8")


def _show(console: Console, made: Made) -> None:
    found = Table(title=made.table.title, title_justify="left")
    for column in ("part", "rule", "attack", "published", "ours", "verdict", "last"):
        found.add_column(column, overflow="fold")
    for cell in made.cells:
        printed = cell.printed
        colour = "green" if cell.agrees else "red"
        said = (f"{printed.value:g}", f"{cell.found:.3f}", f"[{colour}]{verdict(cell)}[/]")
        found.add_row(printed.part, printed.rule, cell.under, *said, f"{cell.last:.3f}")
    console.print(found)
    console.print(summary(made), highlight=False)
    for each in made.likenesses:
        if not each.holds:
            alike = f"{each.same} of {each.seeds} seeds end as under {each.like}"
            console.print(f"{each.rule} under {each.attack}: {alike}", highlight=False)
    console.print(str(made.provenance.effort), highlight=False)
    console.print(f"table and page: {made.stem}.csv, .md", soft_wrap=True)
