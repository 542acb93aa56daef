"""Checks of parameters: an error names the parameter, its value and the legal ones."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np


def number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
) -> None:
    """Raise ValueError unless a value is a finite number, ``least <= value <= most``, > above."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        found = float(value)
        if math.isfinite(found) and least <= found <= most and found > above:
            return
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">=", least), (">", above), ("<=", most))
        if math.isfinite(bound)
    ]
    raise ValueError(
        f"{name} is {value!r}, expected a finite number {' and '.join(bounds)}".strip()
    )


def whole_number(name: str, value: object, minimum: int) -> int:
    """Return value as an int; raise ValueError unless it is an integer >= minimum."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {minimum}")
    return number


def one_of(name: str, value: object, legal: Sequence[str]) -> None:
    """Raise ValueError unless a value is one of some words."""
    if value not in legal:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, legal))}")
