"""An arena from its plan to its files: runs, table, picture, pages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulations.arena.facts import Facts, facts_of
from simulations.arena.markdown import arena_block
from simulations.arena.page import write_page
from simulations.arena.picture import draw
from simulations.arena.plan import Arena, Bout, bouts_of
from simulations.arena.results import Standing, standings_of
from simulations.arena.rows import write_rows
from simulations.engines.making import Making
from simulations.show.pages import with_block

ARENA = "arena"
"""What an arena without a file of its own is called, and the folder of all beside a page."""

SUFFIXES = (".png", ".svg", ".csv", ".html")


@dataclass(frozen=True)
class Made:
    """A finished arena."""

    standings: list[Standing]
    facts: Facts
    stem: Path


def make(arena: Arena, making: Making, command: str, name: str = ARENA) -> Made:
    """Run what is missing and write CSV, PNG, SVG, HTML and a Markdown block.

    Parameters
    ----------
    arena : Arena
    making : Making
    command : str
        What is said to make it.
    name : str, optional
        Of the files, and of the arena's place on a page.

    Raises
    ------
    ValueError
        If no rule can run.
    DataError
        If the data are missing or damaged.
    """
    bouts = [_placed(bout, making) for bout in bouts_of(arena)]
    configs = [config for bout in bouts for config in bout.configs]
    if not configs:
        raise ValueError(f"no rule can run: {bouts[0].reason}")
    stem = making.out / name
    provenance = making.make(configs, stem, name, command)
    made = Made(standings_of(bouts), facts_of(arena, configs, provenance), stem)
    _write(made)
    return made


def publish(made: Made, page: Path) -> None:
    """Put an arena on a Markdown page: its files beside it in ``arena/``, its block in place."""
    folder, name = page.parent / ARENA, made.stem.name
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in SUFFIXES:
        shutil.copy(made.stem.with_suffix(suffix), folder)
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    block = arena_block(made.standings, made.facts, f"{ARENA}/{name}")
    page.write_text(with_block(text, name, block), encoding="utf-8")


def _placed(bout: Bout, making: Making) -> Bout:
    return replace(bout, configs=tuple(making.placed(each) for each in bout.configs))


def _write(made: Made) -> None:
    stem, standings, facts = made.stem, made.standings, made.facts
    write_rows(stem.with_suffix(".csv"), standings)
    pictures: Sequence[Path] = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    draw(
        standings,
        f"{facts.protocol}, split {facts.settings['split']}, {facts.rounds} rounds, "
        f"seeds {facts.seeds}",
        pictures,
    )
    write_page(stem.with_suffix(".html"), standings, facts)
    block = arena_block(standings, facts, stem.name)
    stem.with_suffix(".md").write_text(block, encoding="utf-8")
