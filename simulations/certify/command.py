"""``python -m simulations certify``: rules compared on the replies of a run that is over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import track
from rich.table import Table
from typer import Argument, Option

from flwr_krum.recorded import RecordedRound, read_distances
from flwr_krum.report_page.certified import CertifiedRounds
from flwr_krum.rules import RULES
from simulations.arena.plan import ALL, entries
from simulations.certify.judge import Judged, as_it_was, judged, why_not
from simulations.report import write_report
from simulations.report.runs import Run, read_runs
from simulations.run.history import DISTANCES_FILE
from simulations.show import places


def certify(
    run: Annotated[Path, Argument(help="Folder of a run that was made with --distances.")],
    rules: Annotated[
        list[str], Option(help=f"Rules with ; between them, or {ALL}; may be repeated.")
    ] = [ALL],  # noqa: B006
    page: Annotated[
        Path | None, places.page("HTML page to write: the report, with a curve per rule.")
    ] = None,
) -> None:
    """Judge rules by their certificates on the same replies, without training again."""
    console = Console()
    (found,) = read_runs([run])
    records = _records(run)
    asked = entries("rules", rules, RULES)
    settings = found.config.settings
    made = [
        judged(rule, records, settings.f, settings.seed)
        for rule in track(asked, "rules", console=Console(stderr=True), transient=True)
    ]
    made.insert(0, as_it_was(f"the run itself: {found.config.rule}", records))
    console.print(table(made, _title(found, records)))
    for sentence in why_not(made):
        console.print(sentence, soft_wrap=True, highlight=False)
    if page is not None:
        rounds = [record.server_round for record in records]
        curves = [CertifiedRounds(e.rule, rounds, e.certificates) for e in made if e.known]
        write_report([run], page, curves)
        console.print(f"report: {page}", soft_wrap=True)


def _records(folder: Path) -> list[RecordedRound]:
    """Return the recorded rounds of a run.

    Raises
    ------
    ValueError
        If it kept none.
    """
    path = folder / DISTANCES_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {DISTANCES_FILE}: make the run with --distances")
    return read_distances(path)


def _title(run: Run, records: Sequence[RecordedRound]) -> str:
    """Say on what the rules are judged, and by which limits."""
    settings = run.config.settings
    limits = sorted({record.limit for record in records})
    told = ", ".join(f"{limit:.3g}" for limit in limits)
    return (
        f"{len(records)} of {len(run.reports)} rounds, n={settings.num_clients}, f={settings.f}, "
        f"attack {settings.attack}, limit {told}"
    )


def table(rules: Sequence[Judged], title: str) -> Table:
    """Return a row for each rule that could be judged."""
    made = Table(title=title, title_justify="left")
    made.add_column("rule", overflow="fold")
    for column in ("holds", "does not", "unknown", "median kappa", "survives", "rounds"):
        made.add_column(column, justify="right")
    for each in rules:
        if each.known:
            shares = (each.share(v) for v in ("holds", "does not hold", "cannot be known"))
            made.add_row(
                each.rule,
                *(f"{share:.1%}" for share in shares),
                f"{each.kappa:.3g}",
                str(each.survives),
                str(len(each.known)),
            )
    return made
