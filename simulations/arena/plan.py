"""What is fought in an arena: rules, attacks, and the runs of every pair of them.

The runs of one seed share their split, initial model and mini-batches, whatever the rule: the
streams that these are drawn from are named by what they are for. Differences are paired.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from flwr_krum.attacks import ATTACKS
from flwr_krum.rules import RULES
from flwr_krum.rules.written import parse_rule
from simulations.run.config import RunConfig

ALL, NONE = "all", "none"

LEFT_OUT: Mapping[str, str] = {
    "norm-bounding": "its bound has no default, and without one it is average",
    "non-finite": "like malformed it is refused before a rule sees it: the same cells",
}
"""What `ALL` leaves out, and why; each can be had by its name."""

DECIDED = (
    *("rule", "attack", "seed", "num-server-rounds", "run-dir", "resume", "tensorboard"),
    *("data-dir", "download", "fold", "folds", "roles"),
)
"""Run config keys that the settings of an arena must not hold."""

FOLDER = Path(__file__).parent / "named"
NAMES = (
    *("gamma0-control", "gamma0-choose", "gamma0-f2", "gamma0-f3", "gamma0-f4"),
    "velocity-fl-updates",
)
"""The arenas that come along, each a file."""

KEYS = ("rules", "attacks", "rounds", "seeds", "settings")
"""What the file of an arena may say."""


@dataclass(frozen=True)
class Arena:
    """Rules, attacks, and what all runs have in common.

    Attributes
    ----------
    rules, attacks : tuple of str
        As a run config has them; ``none`` is the first of the attacks.
    settings : mapping
        Run config keys, but for those in `DECIDED`.
    rounds, seeds, first_seed : int
    """

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    settings: Mapping[str, Any]
    rounds: int
    seeds: int
    first_seed: int = 0

    @property
    def all_seeds(self) -> range:
        """The seeds of every pair."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def config(self, rule: str, attack: str, seed: int) -> RunConfig:
        """Return one run.

        Raises
        ------
        ValueError
            If its settings are illegal, or its last model would not be evaluated.
        """
        own = {"rule": rule, "attack": attack, "seed": seed, "num-server-rounds": self.rounds}
        config = RunConfig.from_config({**self.settings, **own})
        if self.rounds % config.evaluate_every:
            raise ValueError(
                f"rounds is {self.rounds}, expected a multiple of evaluate-every, which is "
                f"{config.evaluate_every}: the last model must be evaluated"
            )
        return config


@dataclass(frozen=True)
class Bout:
    """A rule against an attack: a run per seed, or why there can be none."""

    rule: str
    attack: str
    configs: tuple[RunConfig, ...]
    reason: str = ""


def arena_of(
    rules: Iterable[str],
    attacks: Iterable[str],
    settings: Mapping[str, Any],
    rounds: int,
    seeds: int,
    first_seed: int = 0,
) -> Arena:
    """Return the arena of rules and attacks as they are written.

    Parameters
    ----------
    rules, attacks : iterable of str
        Each one text or several with semicolons between them, or ``all``.
    settings : mapping
        Run config keys.
    rounds, seeds, first_seed : int

    Raises
    ------
    ValueError
        If a text is none of a rule or an attack, or a setting is illegal.
    """
    decided = sorted(settings.keys() & set(DECIDED))
    if decided:
        raise ValueError(f"settings hold {decided}, which an arena decides by itself")
    for what, number in (("rounds", rounds), ("seeds", seeds)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{what} is {number!r}, expected an integer >= 1")
    arena = Arena(
        rules=entries("rules", rules, RULES),
        attacks=tuple(dict.fromkeys([NONE, *entries("attacks", attacks, [NONE, *ATTACKS])])),
        settings=settings,
        rounds=rounds,
        seeds=seeds,
        first_seed=first_seed,
    )
    peace = arena.config("average", NONE, first_seed)
    for rule in arena.rules:
        parse_rule(rule, f=peace.settings.f, seed=first_seed)
    for attack in arena.attacks:
        peace.settings.build_attack(attack)
    return arena


def entries(what: str, texts: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the entries of texts, each once: semicolons part them, and ``all`` is all the known.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> entries("rules", ["krum; all", "nnm | median"], ["average", "krum", "norm-bounding"])
    ('krum', 'average', 'nnm | median')
    """
    found = [entry.strip() for text in texts for entry in text.split(";")]
    usual = [name for name in known if name not in LEFT_OUT]
    listed = [each for entry in found if entry for each in (usual if entry == ALL else [entry])]
    if not listed:
        raise ValueError(f"{what} are none, expected names or calls with ; between them, or {ALL}")
    return tuple(dict.fromkeys(listed))


def left_out(arena: Arena) -> dict[str, str]:
    """Return what an arena with all other rules, or attacks, has not of the registered, and why.

    Where it has some of them alone, nothing was left out that had been asked for.
    """
    found: dict[str, str] = {}
    for known, fought in ((RULES, arena.rules), (ATTACKS, arena.attacks)):
        missing = set(known).difference(fought)
        if missing <= LEFT_OUT.keys():
            found |= {name: why for name, why in LEFT_OUT.items() if name in missing}
    return found


def bouts_of(arena: Arena) -> list[Bout]:
    """Return every pair, a rule's together."""
    reasons = {rule: _reason(arena, rule) for rule in arena.rules}
    return [
        Bout(rule, attack, (), reasons[rule])
        if reasons[rule]
        else Bout(rule, attack, tuple(arena.config(rule, attack, s) for s in arena.all_seeds))
        for rule, attack in product(arena.rules, arena.attacks)
    ]


def _reason(arena: Arena, rule: str) -> str:
    """Return why a rule cannot run on the arena's n and f; nothing if it can."""
    settings = RunConfig.from_record({**arena.settings, "rule": rule}).settings
    try:
        settings.build_rule().check(settings.num_clients)
    except ValueError as error:
        return str(error)
    return ""


def read_file(name: str) -> dict[str, Any]:
    """Read the file of an arena, one of `NAMES` or of one's own by its path: some of `KEYS`.

    Raises
    ------
    ValueError
        If there is no such arena, or its file is no TOML or holds what an arena does not have.
    """
    path = FOLDER / f"{name}.toml" if name in NAMES else Path(name)
    if path.suffix != ".toml":
        raise ValueError(f"arena is {name!r}, expected one of {NAMES} or a file such as my.toml")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        unknown = sorted(table.keys() - set(KEYS))
        if unknown:
            raise ValueError(f"unknown keys {unknown}, expected some of {list(KEYS)}")
        if not isinstance(table.get("settings", {}), dict):
            raise ValueError("settings is no table, expected [settings] and keys beneath")
        for what in {"rules", "attacks"} & table.keys():
            table[what] = _texts(what, table[what])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return table


def _texts(what: str, value: Any) -> Sequence[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{what} is {value!r}, expected a text or a list of texts")
    return texts
