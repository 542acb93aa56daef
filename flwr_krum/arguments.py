"""The arguments of a strategy: who takes which, and what ``help`` says of each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

from flwr_krum.settings import RoundOptions, RoundSettings


class _Told(Protocol):
    """A class that says itself what it takes."""

    __signature__: ClassVar[inspect.Signature]


def split_options(cls: type, options: Mapping[str, Any]) -> tuple[RoundOptions, dict[str, Any]]:
    """Part the arguments of a strategy into those of its rounds and those of Flower's FedAvg.

    Raises
    ------
    TypeError
        If one is neither's; the two APIs have two spellings of many.
    """
    own = RoundOptions.__optional_keys__
    ours: RoundOptions = {key: value for key, value in options.items() if key in own}  # type: ignore[assignment]
    theirs = {key: value for key, value in options.items() if key not in own}
    for name in theirs.keys() - inspect.signature(_flowers(cls)).parameters.keys():
        near = get_close_matches(name, inspect.signature(cls).parameters, 1)
        meant = f", did you mean {near[0]}?" if near else f"; help({cls.__name__}) has all"
        raise TypeError(f"{cls.__name__} takes no argument {name}{meant}")
    return ours, theirs


def tell_arguments(cls: type[_Told]) -> None:
    """Have a class's signature and docstring name what ``**options`` hands on.

    Each argument is described once, by the class that takes it.
    """
    own = list(inspect.signature(cls.__init__).parameters.values())[1:]
    if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
        sources = _takers(cls)
        named = {parameter.name for parameter in own}
        handed_on = [p for p in _taken_by(sources) if p.name not in named]
        own[-1:] = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in handed_on]
        if "__doc__" in vars(cls) and cls.__doc__:
            told = inspect.cleandoc(cls.__doc__)
            told, *after = re.split(r"(?=\n\nRaises\n)", told)
            missing = {p.name for p in handed_on if f"\n{p.name} : " not in told}
            entries = [line for source in sources for line in _entries(source, missing)]
            cls.__doc__ = "\n".join([told, "", *_OTHERS, *entries]) + "".join(after)
    cls.__signature__ = inspect.Signature(own)


_OTHERS = ("Other Parameters", "----------------")


def _takers(cls: type) -> list[type]:
    """Return who takes what a class hands on: the strategy above it, or the rounds and Flower."""
    above = [base for base in cls.__mro__[1:] if "__signature__" in vars(base)]
    return above[:1] or [RoundSettings, _flowers(cls)]


def _flowers(cls: type) -> type:
    """Return Flower's own strategy that a class is made of."""
    return next(base for base in cls.__mro__ if base.__module__.startswith("flwr."))


def _taken_by(takers: Iterable[type]) -> Iterator[inspect.Parameter]:
    """Yield the arguments with a default that may be handed on."""
    optional = RoundOptions.__optional_keys__
    for taker in takers:
        for parameter in inspect.signature(taker).parameters.values():
            is_option = taker is not RoundSettings or parameter.name in optional
            if is_option and parameter.default is not parameter.empty:
                yield parameter


def _entries(cls: type, names: Container[str]) -> list[str]:
    """Return the lines in which a class's docstring describes the arguments of these names."""
    lines: list[str] = []
    taking = False
    for line in (inspect.getdoc(cls) or "").splitlines():
        if not line.startswith(" "):
            name, colon, _ = line.partition(" : ")
            taking = bool(colon) and name in names
        if taking:
            lines.append(line)
    return lines
