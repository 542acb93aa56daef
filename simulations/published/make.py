"""A published table from its file to its files: runs, cells, CSV and a Markdown block."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from simulations.engines.making import Making, Provenance
from simulations.published.cells import Cell, Likeness, cell_of, curves_of, likenesses_of
from simulations.published.table import PublishedTable
from simulations.run.config import RunConfig

COLUMNS = (
    *("part", "rule", "attacks", "published", "found", "difference", "within", "verdict"),
    *("under", "last", "seed", "seed_last", "seed_maximum"),
)


@dataclass(frozen=True)
class Amount:
    """How much of a table is run.

    Attributes
    ----------
    parts : tuple of str
        Empty is all.
    seeds, rounds : int
        0 is the table's own.
    first_seed : int
        The others follow.
    """

    parts: tuple[str, ...] = ()
    seeds: int = 0
    rounds: int = 0
    first_seed: int = 0


@dataclass(frozen=True)
class Made:
    """A table that was run again."""

    table: PublishedTable
    cells: list[Cell]
    likenesses: list[Likeness]
    provenance: Provenance
    rounds: int
    seeds: range
    stem: Path


def make(table: PublishedTable, amount: Amount, making: Making, command: str) -> Made:
    """Run what is missing, compare, and write CSV.

    Parameters
    ----------
    table : PublishedTable
    amount : Amount
    making : Making
        On the table's data.
    command : str
        What is said to make it.

    Raises
    ------
    ValueError
        If there is no such part, or the settings of a run are illegal.
    DataError
        If the data are missing or damaged.
    """
    seeds = range(amount.first_seed, amount.first_seed + (amount.seeds or table.seeds))
    rounds = amount.rounds or table.rounds
    parts = amount.parts or tuple(table.parts)
    if unknown := [part for part in parts if part not in table.parts]:
        raise ValueError(f"parts hold {unknown}, expected some of {list(table.parts)}")
    runs: dict[tuple[str, str, str], tuple[RunConfig, ...]] = {
        (part, rule, attack): tuple(
            making.placed(config) for config in table.configs(part, rule, attack, rounds, seeds)
        )
        for part, rule, attack in _wanted(table, parts)
    }
    configs = [config for each in runs.values() for config in each]
    stem = making.out / table.name
    provenance = making.make(configs, stem, table.name, command)
    curves = {key: curves_of(key[2], each) for key, each in runs.items()}
    cells = [
        cell_of(each, [curves[each.part, each.rule, a] for a in each.attacks], table.measure)
        for each in table.printed
        if each.part in parts
    ]
    likenesses = []
    if table.equal:
        for part in parts:
            own = {key[1:]: found for key, found in curves.items() if key[0] == part}
            likenesses += likenesses_of(part, table.equal, own)
    made = Made(table, cells, likenesses, provenance, rounds, seeds, stem)
    write_rows(stem.with_suffix(".csv"), made)
    return made


def _wanted(table: PublishedTable, parts: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    """Return every part, rule and attack that is run, each once."""
    wanted = [
        (each.part, each.rule, attack)
        for each in table.printed
        if each.part in parts
        for attack in each.attacks
    ]
    if table.equal:
        equal = table.equal
        wanted += product(parts, equal.rules, (*equal.attacks, equal.like))
    return dict.fromkeys(wanted)


def verdict(cell: Cell) -> str:
    """Say whether ours is near the printed number."""
    return f"{'within' if cell.agrees else 'not within'} {cell.printed.within:g}"


def write_rows(path: Path, made: Made) -> None:
    """Write a row per cell and seed: seven digits, what is the cell's own in each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for cell in made.cells:
            printed = cell.printed
            own = [printed.part, printed.rule, "; ".join(printed.attacks), printed.value]
            own += [cell.found, cell.difference, printed.within, verdict(cell), cell.under]
            for seed, last, most in zip(made.seeds, cell.lasts, cell.maxima, strict=True):
                values = [*own, cell.last, seed, last, most]
                writer.writerow([f"{v:.7g}" if isinstance(v, float) else v for v in values])
