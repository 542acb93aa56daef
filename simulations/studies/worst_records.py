"""What searches for the worst inputs of rules find, and the files that it is kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from flwr_krum.rules import RULES, Rule
from flwr_krum.rules.written import parse_rule
from simulations.studies.worst_kappa import Unbounded, Witness, search, unbounded

ALL = "all"

FOLDER = Path("tests/simulations/studies/worst_kappa")
"""A file of inputs for each n and f; the tests work out anew what is said of them."""

LEFT_OUT = {
    "norm-bounding": "its bound has no default; `norm-bounding(C=1)` stands for it",
    "smea": "it tries every set for each input; `smea(most_sets=1000)` stands for it at small n",
    "monna": "it measures from a model of the server's own: kappa is of that model too",
    "fltrust": "it measures from a model of the server's own: kappa is of that model too",
    "bucketing": "it draws who is mixed with whom: only its expectation is known to be bounded",
}
"""Of the rules and mixings, what is not searched as it is, and why."""

SEARCHED = (
    *(name for name in RULES if name not in LEFT_OUT),
    *("norm-bounding(C=1)", "smea(most_sets=1000)"),
    *("nnm | krum", "nnm | median", "nnm | trimmed-mean", "nnm | geometric-median"),
    *("arc | krum", "arc | trimmed-mean"),
)
"""What `ALL` is, in the order of the page."""


@dataclass(frozen=True)
class Record:
    """What searches beside each other found of a rule.

    Attributes
    ----------
    rule : str
        As it is written.
    n, f : int
        Its own f, where it bears fewer liars than were asked for.
    budget : int
        Inputs that each search tried; 0 where none was needed.
    by_seed : mapping of seed to kappa
    worst : Witness or Unbounded
    """

    rule: str
    n: int
    f: int
    budget: int
    by_seed: dict[int, float]
    worst: Witness | Unbounded

    def __str__(self) -> str:
        return f"{self.worst.kappa:.4g}" if isinstance(self.worst, Witness) else "unbounded"

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values; doubles come back as they were."""
        own = {key: getattr(self, key) for key in ("rule", "n", "f", "budget", "by_seed")}
        if isinstance(self.worst, Unbounded):
            return {**own, "family": self.worst.family, "kappas": list(self.worst.kappas)}
        rows = self.worst.rows.tolist()
        return {**own, "kappa": self.worst.kappa, "shape": self.worst.shape, "rows": rows}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Self:
        """Return the record that `to_json` made the values of."""
        if "family" in values:
            worst: Witness | Unbounded = Unbounded(values["family"], tuple(values["kappas"]))
        else:
            worst = Witness(values["kappa"], np.array(values["rows"]), values["shape"])
        by_seed = {int(seed): kappa for seed, kappa in values["by_seed"].items()}
        rule, n, f, budget = (values[key] for key in ("rule", "n", "f", "budget"))
        return cls(rule, n, f, budget, by_seed, worst)


def in_force(text: str, n: int, f: int) -> tuple[Rule, int]:
    """Return a rule for n clients, and how many liars it bears of the f that are asked for.

    Raises
    ------
    ValueError
        If it bears none, is slower than a search can be, or asks the server for a row.
    """
    rule = parse_rule(text, f=f, seed=0)
    if rule.server_rows:
        raise ValueError(f"{text} asks the server for {list(rule.server_rows)}: no input is all")
    if not rule.suffices(n, f):
        f = rule.most(n)
    if f < 1:
        raise ValueError(f"{text} needs {rule.requirement}: it bears no liar of {n} clients")
    fitted = rule.fitted(n, f)
    fitted.check(n)
    return fitted, f


def examined(text: str, n: int, f: int, budget: int, seeds: Sequence[int]) -> Record:
    """Return what searches with each of some seeds find of a rule.

    Raises
    ------
    ValueError
        As for `in_force`.
    """
    rule, f = in_force(text, n, f)
    found: Witness | Unbounded | None = unbounded(rule, n, f)
    if found is not None:
        return Record(text, n, f, 0, {}, found)
    witnesses = {seed: search(rule, n, f, budget, seed) for seed in seeds}
    by_seed = {seed: witness.kappa for seed, witness in witnesses.items()}
    return Record(
        text, n, f, budget, by_seed, max(witnesses.values(), key=lambda witness: witness.kappa)
    )


def examine_all(
    rules: Iterable[str],
    n: int,
    f: int,
    budget: int,
    seeds: Sequence[int],
    say: Callable[[str], None],
) -> list[Record]:
    """Return a record for each rule, and say what becomes known.

    Parameters
    ----------
    rules : iterable of str
        Each one text or several with semicolons between them, or `ALL`.
    n, f, budget : int
    seeds : sequence of int
    say : callable
        Hears a line for each rule.

    Raises
    ------
    ValueError
        If a rule that is named, not one of all, cannot be searched, or liars are no minority.
    """
    if not 1 <= f < n / 2:
        raise ValueError(f"-f is {f}, expected an integer from 1 to {(n - 1) // 2} where -n is {n}")
    named = [each.strip() for text in rules for each in text.split(";")]
    found = []
    for text in dict.fromkeys(e for name in named for e in (SEARCHED if name == ALL else [name])):
        try:
            found.append(examined(text, n, f, budget, seeds))
        except ValueError as error:
            if text in named:
                raise
            say(f"left out: {error}")
        else:
            say(f"{text}: {found[-1]}")
    return found


def keep(records: Iterable[Record], n: int, f: int, folder: Path = FOLDER) -> None:
    """Write records into the file of an n and f, in the place of those of the same rules."""
    path = folder / f"{n}-{f}.json"
    kept = {record.rule: record for record in kept_in(path)}
    kept |= {record.rule: record for record in records}
    order = [*SEARCHED, *sorted(kept.keys() - set(SEARCHED))]
    lines = [json.dumps(kept[rule].to_json()) for rule in order if rule in kept]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def kept_in(path: Path) -> list[Record]:
    """Return the records of a file, none where there is no such file."""
    if not path.exists():
        return []
    return [Record.of_json(values) for values in json.loads(path.read_text())]
