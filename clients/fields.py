"""A setting said once: its kind, its bound, its help and its default.

Constructors check by it, the keys of a run config are made from it, and so is a command line.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Described(ABC):
    """What a setting may be.

    Attributes
    ----------
    help : str
        What it means.
    option : str
        What it is called on a command line, where that is not its key.
    """

    help: str
    option: str = field(default="", kw_only=True)

    @abstractmethod
    def allows(self, value: object, of: object) -> bool:
        """Say whether a value is legal beside the others of the same object."""

    @abstractmethod
    def legal(self, of: object) -> str:
        """Return the legal values in words."""


@dataclass(frozen=True)
class Choice(Described):
    """One of several words."""

    choices: tuple[str, ...]

    def allows(self, value: object, of: object) -> bool:
        """Accept the words."""
        return value in self.choices

    def legal(self, of: object) -> str:
        """List the words."""
        return " or ".join(map(repr, self.choices))


@dataclass(frozen=True)
class Whole(Described):
    """An integer from ``least`` on, up to ``most`` of the object that it is a setting of."""

    least: int
    most: Callable[[Any], int] | None = None

    def allows(self, value: object, of: object) -> bool:
        """Accept integers within the bounds."""
        # bool is an int to Python, but `f = true` in a config is a mistake.
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.least <= value and (self.most is None or value <= self.most(of))

    def legal(self, of: object) -> str:
        """Name the bounds."""
        if self.most is None:
            return f"an integer >= {self.least}"
        return f"an integer from {self.least} to {self.most(of)}"


@dataclass(frozen=True)
class Number(Described):
    """A finite number that is not negative, and ``below`` another where one is given."""

    positive: bool = False
    below: float = math.inf

    def allows(self, value: object, of: object) -> bool:
        """Accept integers too."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        least = value > 0 or not self.positive
        return least and 0 <= value <= sys.float_info.max and value < self.below

    def legal(self, of: object) -> str:
        """Name the bounds."""
        most = f" and < {self.below:g}" if self.below < math.inf else ""
        return f"a finite number {'>' if self.positive else '>='} 0{most}"


@dataclass(frozen=True)
class Flag(Described):
    """True or false."""

    def allows(self, value: object, of: object) -> bool:
        """Accept no number."""
        return isinstance(value, bool)

    def legal(self, of: object) -> str:
        """Name both as a config writes them."""
        return "true or false"


@dataclass(frozen=True)
class Text(Described):
    """A text; an empty one only where it stands for something."""

    what: str = "the path of a folder"
    may_be_empty: bool = False

    def allows(self, value: object, of: object) -> bool:
        """Accept any other text."""
        return isinstance(value, str) and (value != "" or self.may_be_empty)

    def legal(self, of: object) -> str:
        """Say what the text is."""
        return self.what


def setting(default: object, what: Described) -> Any:
    """Return a dataclass field that is a setting."""
    return field(default=default, metadata={"setting": what})


def described(kind: type) -> dict[str, Described]:
    """Return the settings among a dataclass's fields, by name."""
    return {
        each.name: each.metadata["setting"] for each in fields(kind) if "setting" in each.metadata
    }


def key_of(name: str) -> str:
    """Return the key of a setting in a run config: its name in kebab-case."""
    return name.replace("_", "-")


def defaults_of(kind: type) -> dict[str, Any]:
    """Return the default of each setting, by key."""
    return {key_of(name): getattr(kind, name) for name in described(kind)}


def in_config(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a class that a run config holds, by name."""
    names = {name: key_of(name) for name in described(kind)}
    return {name: config[key] for name, key in names.items() if key in config}


def check(of: object) -> None:
    """Raise ValueError for the first setting of an object that is not legal."""
    for name, what in described(type(of)).items():
        if not what.allows(getattr(of, name), of):
            raise error(of, name, what.legal(of))


def error(of: object, name: str, legal: str) -> ValueError:
    """Return an error that names a setting, its value and what would be legal."""
    return ValueError(f"{key_of(name)} is {getattr(of, name)!r}, expected {legal}")
