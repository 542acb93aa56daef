"""The block of a published table on a Markdown page: its numbers beside ours, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulations.published.cells import Cell
from simulations.published.make import Made, verdict

MEASURED = {
    "last": "The mean over the seeds of the last accuracy.",
    "maximum-of-mean": "The mean over the seeds at each evaluation, the maximum of that over the "
    "rounds, the minimum of that over the attacks; it flatters a rule that rises and then falls. "
    "Last is the least mean of the last accuracies.",
}


def table_block(made: Made) -> str:
    """Return the block."""
    table, provenance = made.table, made.provenance
    settings = (
        f"{provenance.protocol}; {made.rounds} rounds, seeds {', '.join(map(str, made.seeds))}. "
        f"{MEASURED[table.measure]} Published: {table.source}. {' '.join(table.caption.split())}"
    )
    lines = [
        f"{table.title}: {summary(made)}.",
        "",
        f"`{provenance.command}`",
        "",
        settings,
        "",
        *_rows(made.cells),
        "",
        *_likenesses(made),
        f"{provenance.effort}.",
    ]
    return "\n".join(lines) + "\n"


def summary(made: Made) -> str:
    """Say in how many cells ours is near the printed number."""
    near = sum(cell.agrees for cell in made.cells)
    return f"{near} of {len(made.cells)} cells are as near as is asked for"


def _rows(cells: Sequence[Cell]) -> Iterator[str]:
    columns = ("part", "rule", "attack", "published", "ours", "difference", "verdict", "last", "")
    yield row([*columns[:-1], "per seed: maximum, last"])
    yield row(["---"] * len(columns))
    for cell in cells:
        printed = cell.printed
        seeds = "; ".join(
            f"{most:.3f}, {last:.3f}" for most, last in zip(cell.maxima, cell.lasts, strict=True)
        )
        numbers = [f"{printed.value:g}", f"{cell.found:.3f}", f"{cell.difference:+.3f}"]
        words = [verdict(cell), f"{cell.last:.3f}", seeds]
        yield row([printed.part, printed.rule, cell.under, *numbers, *words])


def _likenesses(made: Made) -> Iterator[str]:
    equal = made.table.equal
    if equal is None:
        return
    broken = [each for each in made.likenesses if not each.holds]
    yield (
        f"Attacked equals replaced: {len(made.likenesses) - len(broken)} of "
        f"{len(made.likenesses)} pairs of a rule and an attack end with every seed's accuracy "
        f"under {equal.like}."
    )
    yield ""
    for each in broken:
        yield f"- {each.rule} under {each.attack}: {each.same} of {each.seeds} seeds do"
    if broken:
        yield ""


def row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
