"""The block of an arena on a Markdown page: picture, table, and how both were made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulations.arena.facts import READING, Facts
from simulations.arena.results import Standing
from simulations.arena.words import interval, outcome


def arena_block(standings: Sequence[Standing], facts: Facts, stem: str) -> str:
    """Return the block.

    Parameters
    ----------
    standings : sequence of Standing
    facts : Facts
    stem : str
        Path of the picture as the page links to it, without its suffix; the other files lie
        beside it.
    """
    links = f"[SVG]({stem}.svg), [every seed]({stem}.csv), [a page that sorts]({stem}.html)"
    settings = ", ".join(f"{key} = {value}" for key, value in facts.settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    made = (
        f"Settings: {settings}. Rounds: {facts.rounds}. Seeds: {facts.seeds}. "
        f"Versions: {versions}. {facts.effort}."
    )
    lines = [
        f"![Every rule under every attack]({stem}.png)",
        "",
        f"`{facts.command}` ({links})",
        "",
        f"{facts.protocol}. {READING}",
        "",
        *_table(standings),
        "",
        made,
        "",
        *(f"- left out: {name}, {why}" for name, why in facts.left_out.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(standings: Sequence[Standing]) -> Iterator[str]:
    attacks = [result.attack for result in standings[0].results]
    columns = ["rule", "worst case", "95 % interval", "under", *attacks]
    yield _row(columns)
    yield _row(["---"] * len(columns))
    for standing in standings:
        worst = standing.worst
        if not worst.scores:
            yield _row([standing.rule, outcome(worst), *[""] * (len(columns) - 2)])
            continue
        cells = [outcome(result) for result in standing.results]
        under = [outcome(worst), interval(worst.last_interval), worst.attack]
        yield _row([standing.rule, *under, *cells])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
