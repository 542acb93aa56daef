"""The worst inputs that were found for each rule: a table for the terminal, blocks of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from flwr_krum.certificate import least_kappa, limit_of
from flwr_krum.rules.mixing import Chain
from flwr_krum.rules.written import parse_rule
from simulations.show.pages import with_block
from simulations.studies.worst_kappa import FAR, Unbounded, Witness
from simulations.studies.worst_records import FOLDER, LEFT_OUT, Record, kept_in

PAGE = Path("docs/worst-kappa.md")

COLUMNS = ("rule", "f", "kappa", "by seed", "inputs tried", "input", "floor", "limit", "proven")


ROUNDING = 1e-9
"""Share of the limit that a kappa may be above it and still be at it."""


def proven(text: str) -> str:
    """Return a paper's coefficient where its text was read, or what there is instead."""
    rule = parse_rule(text)
    facts = rule.mixing.facts if isinstance(rule, Chain) else rule.facts
    said = str(facts.kappa)
    return "not checked" if "not checked" in said else said


def row(record: Record) -> tuple[str, ...]:
    """Return what the page says of a record, by `COLUMNS`."""
    worst, by_seed = record.worst, record.by_seed
    floor, limit = (of(record.n, record.f) for of in (least_kappa, limit_of))
    if isinstance(worst, Unbounded):
        growth = ", ".join(f"{kappa:.3g}" for kappa in worst.kappas)
        far = ", ".join(f"{t:g}" for t in FAR)
        found = ("unbounded", "", "", f"{worst.family}: kappa is {growth} at t = {far}")
    else:
        each = ", ".join(f"{kappa:.4g}" for kappa in by_seed.values())
        found = (f"{worst.kappa:.4g}", each, f"{record.budget:,}", worst.shape)
    said = proven(record.rule)
    return (record.rule, str(record.f), *found, f"{floor:.3g}", f"{limit:.3g}", said)


def terminal_table(records: Iterable[Record]) -> Table:
    """Return the records for a terminal."""
    table = Table(title="worst inputs found", show_lines=True)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(*row(record))
    return table


def with_records(text: str, folder: Path = FOLDER) -> str:
    """Return the page with a block for each file of records, and one of what has none."""
    for path in sorted(folder.glob("*.json")):
        n, f = map(int, path.stem.split("-"))
        text = with_block(text, f"{f} of {n}", _block(n, f, kept_in(path)))
    missing = "".join(f"- `{name}`: {why}.\n" for name, why in LEFT_OUT.items())
    return with_block(text, "left out", missing)


def _block(n: int, f: int, records: Sequence[Record]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(row, records)]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    table = "".join(f"| {line} |\n" for line in cells)
    return f"{_conclusion(n, f, records)}\n{table}"


def _conclusion(n: int, f: int, records: Sequence[Record]) -> str:
    """Say which rules were brought beyond the limit of n and f, and which were not."""
    limit = limit_of(n, f)
    within = limit * (1.0 + ROUNDING)
    found = [(r.rule, r.worst.kappa) for r in records if isinstance(r.worst, Witness) and r.f == f]
    said = {
        "Brought beyond the limit": [rule for rule, kappa in found if kappa > within],
        "Not brought beyond it": [rule for rule, kappa in found if kappa <= within],
        "Without a bound": [r.rule for r in records if isinstance(r.worst, Unbounded)],
    }
    lines = [
        f"- {what}: {', '.join(f'`{rule}`' for rule in rules) or 'none'}.\n"
        for what, rules in said.items()
    ]
    return (
        f"`python -m simulations worst-kappa -n {n} -f {f} --rule RULE --budget TRIED --write` for "
        f"each row: floor {least_kappa(n, f):.3g}, limit {limit:.3g}.\n\n{''.join(lines)}"
    )
