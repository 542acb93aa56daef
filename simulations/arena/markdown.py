"""The block of an arena on a Markdown page: picture, table, and how both were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from simulations.arena.facts import READING, Facts
from simulations.arena.results import Result, Standing
from simulations.arena.words import factor, far, interval, outcome, share
from simulations.run.intervals import Outcome


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
        *_beside(standings, "certificate held", lambda r: r.certified, share),
        *_beside(standings, "factor chosen", lambda r: r.factor, factor),
        made,
        "",
        *(f"- left out: {name}, {why}" for name, why in facts.left_out.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(standings: Sequence[Standing]) -> Iterator[str]:
    attacks = [result.attack for result in standings[0].results]
    columns = ["rule", "worst case", "95 % interval", "under", "behind the best", *attacks]
    yield _row(columns)
    yield _row(["---"] * len(columns))
    for standing in standings:
        worst = standing.worst
        if not worst.scores:
            yield _row([standing.rule, outcome(worst), *[""] * (len(columns) - 2)])
            continue
        cells = [_cell(result) for result in standing.results]
        under = [outcome(worst), interval(worst.last_interval), worst.attack, far(standing)]
        yield _row([standing.rule, *under, *cells])


def _cell(result: Result) -> str:
    """Write a cell: bold the best of its attack, with a ? what the seeds do not tell from it."""
    if result.last is None:
        return outcome(result)
    if result.behind is None:
        return f"**{outcome(result)}**"
    return outcome(result) + ("?" if result.behind.outcome == Outcome.UNKNOWN else "")


def _beside(
    standings: Sequence[Standing],
    title: str,
    number: Callable[[Result], float | None],
    text: Callable[[float | None], str],
) -> Iterator[str]:
    """Yield a table of what only some arenas have; nothing where no result has it."""
    results = standings[0].results
    places = [
        i
        for i in range(len(results))
        if any(number(standing.results[i]) is not None for standing in standings)
    ]
    if not places:
        return
    yield _row([title, *(results[i].attack for i in places)])
    yield _row(["---"] * (len(places) + 1))
    for standing in standings:
        yield _row([standing.rule, *(text(number(standing.results[i])) for i in places)])
    yield ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
