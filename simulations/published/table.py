"""The file of a published table: settings, rules, attacks, and the numbers that were printed.

A table has parts, which differ in some settings. Each part prints a number per rule, the worst of
all attacks, or a number per rule and attack.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulations.run.config import RunConfig

FOLDER = Path(__file__).parent
NAMES = ("byzfl-mnist", "velocity-fl")
"""The tables there are."""

MEASURES = ("last", "maximum-of-mean")
"""The mean of the last accuracies; the largest over the rounds of the seeds' mean, as ByzFL."""

WORST = "worst"
"""What stands for the attack where a number is the worst of all."""

KEYS = (
    *("title", "source", "caption", "rounds", "seeds", "data", "measure", "within"),
    *("settings", "rules", "attacks", "part", "equal"),
)


@dataclass(frozen=True)
class Printed:
    """A number as it was printed.

    Attributes
    ----------
    part, rule : str
        As the table calls them.
    attacks : tuple of str
        Those that it is the worst of.
    value : float
    within : float
        How far ours may be from it.
    """

    part: str
    rule: str
    attacks: tuple[str, ...]
    value: float
    within: float


@dataclass(frozen=True)
class Equal:
    """Attacks under which rules must end with the very accuracies that they have under another.

    A rule that never follows an attacker ends alike whatever it sends.
    """

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    like: str


@dataclass(frozen=True)
class PublishedTable:
    """A table as its file declares it.

    Attributes
    ----------
    name, title, source, caption : str
    rounds, seeds : int
        How much is run unless the command says otherwise.
    data : "embedded" | "full"
    measure : str
        One of `MEASURES`.
    rules, attacks : mapping of the table's name to text
    parts : mapping of name to settings
    printed : tuple of Printed
    equal : Equal or None
    """

    name: str
    title: str
    source: str
    caption: str
    rounds: int
    seeds: int
    data: str
    measure: str
    rules: Mapping[str, str]
    attacks: Mapping[str, str]
    parts: Mapping[str, Mapping[str, Any]]
    printed: tuple[Printed, ...]
    equal: Equal | None

    def configs(
        self, part: str, rule: str, attack: str, rounds: int, seeds: Sequence[int]
    ) -> tuple[RunConfig, ...]:
        """Return the runs of a rule under an attack, one per seed.

        Raises
        ------
        ValueError
            If their settings are illegal, or their last model would not be evaluated.
        """
        own = {"rule": self.rules[rule], "attack": self.attacks[attack]}
        keys = {**self.parts[part], **own, "num-server-rounds": rounds}
        made = tuple(RunConfig.from_config({**keys, "seed": seed}) for seed in seeds)
        if rounds % (every := made[0].evaluate_every):
            raise ValueError(
                f"rounds is {rounds}, expected a multiple of evaluate-every, which is {every}: the "
                "last model must be evaluated"
            )
        return made


def load_table(name: str) -> PublishedTable:
    """Read a table of this package by its name, or one of one's own by its path.

    Raises
    ------
    ValueError
        If there is no such table, or its file is wrong.
    """
    path = FOLDER / f"{name}.toml" if name in NAMES else Path(name)
    if path.suffix != ".toml":
        raise ValueError(f"table is {name!r}, expected one of {NAMES} or a file such as my.toml")
    try:
        return _table(path.stem, tomllib.loads(path.read_text("utf-8")))
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from error
    except (TypeError, AttributeError, ValueError) as error:  # a text where a table should be
        raise ValueError(f"{path}: {error}") from error


def _table(name: str, table: Mapping[str, Any]) -> PublishedTable:
    unknown = sorted(table.keys() - set(KEYS))
    if unknown:
        raise ValueError(f"unknown keys {unknown}, expected some of {list(KEYS)}")
    if table["measure"] not in MEASURES:
        raise ValueError(f"measure is {table['measure']!r}, expected one of {MEASURES}")
    read = PublishedTable(
        name=name,
        **{key: table[key] for key in ("title", "source", "caption", "rounds", "seeds")},
        **{key: table[key] for key in ("data", "measure", "rules", "attacks")},
        parts={part["key"]: {**table["settings"], **part["settings"]} for part in table["part"]},
        printed=tuple(number for part in table["part"] for number in _printed(part, table)),
        equal=_equal(table["equal"]) if "equal" in table else None,
    )
    named = [(each.rule, each.attacks) for each in read.printed]
    if read.equal:
        named += [(rule, (*read.equal.attacks, read.equal.like)) for rule in read.equal.rules]
    for rule, attacks in named:
        _check_names("rule", [rule], read.rules)
        _check_names("attack", attacks, read.attacks)
    return read


def _printed(part: Mapping[str, Any], table: Mapping[str, Any]) -> list[Printed]:
    found = []
    for rule, values in part["published"].items():
        within = table["within"]
        near = within[rule] if isinstance(within, dict) else within
        if not isinstance(values, dict):
            values = {WORST: values}
        for attack, value in values.items():
            attacks = tuple(table["attacks"]) if attack == WORST else (attack,)
            found.append(Printed(part["key"], rule, attacks, float(value), float(near)))
    return found


def _equal(table: Mapping[str, Any]) -> Equal:
    return Equal(tuple(table["rules"]), tuple(table["attacks"]), table["like"])


def _check_names(what: str, names: Sequence[str], known: Mapping[str, str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what} is {name!r}, expected one of {list(known)}")
