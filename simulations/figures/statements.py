"""What a figure is said to show, in numbers: claims, their checks, and what a check measures.

A claim of the paper is a sentence. Each check beneath it is a number per seed and the bounds that
its mean over seeds must keep; the bounds stand in the experiment file, before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Window = tuple[int, int]
"""First and last round, both included."""


@dataclass(frozen=True)
class Quantity:
    """A number that every seed has: an accuracy over a window, or the round that reaches one.

    With ``below`` it is 1 where that accuracy is less, and else 0.

    Attributes
    ----------
    curve, panel : str
    swept : float or None
        Value of the figure's sweep.
    window : (int, int) or None
        Mean accuracy over these rounds ...
    level : float or None
        ... or, where there is no window, the first evaluated round, from 1 on, of at least this
        accuracy.
    below : float or None
        The accuracy below which a run counts as one that failed.
    """

    curve: str
    panel: str = ""
    swept: float | None = None
    window: Window | None = None
    level: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Check:
    """A quantity, or how it compares with another one, and the bounds of its mean over seeds.

    Attributes
    ----------
    label : str
        What is measured, in words.
    of : Quantity
    against : Quantity or None
        Subtracted from ``of``, seed by seed; with ``ratio`` divided by.
    ratio : bool
    at_least, at_most : float
    """

    label: str
    of: Quantity
    against: Quantity | None = None
    ratio: bool = False
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if self.at_least == -self.at_most:
            return f"within ±{self.at_most:g}"
        least = [f"at least {self.at_least:g}"] if math.isfinite(self.at_least) else []
        most = [f"at most {self.at_most:g}"] if math.isfinite(self.at_most) else []
        return ", ".join(least + most).replace("-", "−")


@dataclass(frozen=True)
class Statement:
    """A sentence, and the checks that it stands or falls with.

    Attributes
    ----------
    id, says : str
    checks : tuple of Check
    seeds : int
        How many the curves of its checks are run with; 0 is as many as the figure's others.
    """

    id: str
    says: str
    checks: tuple[Check, ...]
    seeds: int = 0


@dataclass(frozen=True)
class Vocabulary:
    """The names that the checks of a figure may use, with their labels.

    Attributes
    ----------
    curves, panels : mapping of key to label
    sweep : str
        Symbol of what is swept, such as "b"; empty without a sweep.
    values : sequence of float
        The swept values; none without a sweep.
    windows : mapping of name to window
    """

    curves: Mapping[str, str]
    panels: Mapping[str, str]
    sweep: str
    values: Sequence[float]
    windows: Mapping[str, Window]

    @property
    def swept(self) -> list[float | None]:
        """What a quantity may be taken at."""
        return list(self.values) or [None]


_KEYS = {
    "of", "minus", "over", "panel", "at", "minus_at", "window", "minus_window", "reaches",
    "at_least", "at_most", "within", "below",
}  # fmt: skip


def read_statement(table: Mapping[str, Any], names: Vocabulary) -> Statement:
    """Read a claim of an experiment file.

    A check says ``of`` which curve, ``minus`` or ``over`` which other one, in which ``window`` or
    from when on it ``reaches`` an accuracy, and its bounds: ``at_least``, ``at_most`` or
    ``within``. ``panel`` and ``at`` (a swept value) default to all there are; ``minus_window``
    and ``minus_at`` to those of the minuend. Where several values are given, each is a check. With
    ``below`` the bounds are those of the share of seeds that end below that accuracy. ``seeds``
    beside the checks is how many a power calculation asked for before they ran.

    Raises
    ------
    ValueError
        If a key or a name is unknown, a bound is missing, or there is nothing to measure.
    """
    checks = [check for part in table["check"] for check in _checks(table["id"], dict(part), names)]
    return Statement(table["id"], table["says"], tuple(checks), table.get("seeds", 0))


def _checks(claim: str, part: dict[str, Any], names: Vocabulary) -> list[Check]:
    if unknown := sorted(set(part) - _KEYS):
        raise ValueError(f"claim {claim}: unknown keys {unknown}, expected some of {sorted(_KEYS)}")
    if ("window" in part) == ("reaches" in part):
        raise ValueError(f"claim {claim}: a check takes either 'window' or 'reaches'")
    if "minus" in part and "over" in part:
        raise ValueError(f"claim {claim}: a check takes 'minus' or 'over', not both")
    if "below" in part and {"minus", "over", "reaches"} & set(part):
        raise ValueError(f"claim {claim}: 'below' is of one curve, over a window")
    if not {"at_least", "at_most", "within"} & set(part):
        raise ValueError(f"claim {claim}: a check needs 'at_least', 'at_most' or 'within'")
    within = part.get("within", math.inf)
    limits = {
        "ratio": "over" in part,
        "at_least": max(part.get("at_least", -math.inf), -within),
        "at_most": min(part.get("at_most", math.inf), within),
    }
    others = part.get("minus", part.get("over", [None]))
    choices = product(
        _listed(part.get("panel", list(names.panels))),
        _listed(part["of"]),
        _listed(others),
        _listed(part.get("at", names.swept)),
        _windows(part.get("window", [None]), names),
        _listed(part.get("reaches", [None])),
    )
    return [
        _check(
            claim,
            Quantity(of, panel, at, window, level, part.get("below")),
            other,
            part,
            names,
            limits,
        )
        for panel, of, other, at, window, level in choices
    ]


def _check(
    claim: str,
    of: Quantity,
    other: str | None,
    part: Mapping[str, Any],
    names: Vocabulary,
    limits: Mapping[str, Any],
) -> Check:
    against = None
    if other is not None:
        (window,) = _windows(part["minus_window"], names) if "minus_window" in part else [of.window]
        against = Quantity(other, of.panel, part.get("minus_at", of.swept), window, of.level)
    for quantity in (of, against):
        if quantity is not None:
            _check_names(claim, quantity, names)
    return Check(_label(of, against, limits["ratio"], names), of, against, **limits)


def _check_names(claim: str, quantity: Quantity, names: Vocabulary) -> None:
    known: list[tuple[str, object, Sequence[object]]] = [
        ("curve", quantity.curve, list(names.curves)),
        ("panel", quantity.panel, list(names.panels)),
        ("at", quantity.swept, names.swept),
    ]
    for what, value, legal in known:
        if value not in legal:
            raise ValueError(f"claim {claim}: {what} is {value!r}, expected one of {legal}")


def _label(of: Quantity, against: Quantity | None, ratio: bool, names: Vocabulary) -> str:
    """Say what is measured: first where the sides differ, then what they have in common."""
    sides = [_words(side, names) for side in (of, against) if side is not None]
    parts = list(zip(*sides, strict=True))
    differ = [len(set(part)) > 1 for part in parts]
    differ[0] = True  # the curve comes first, also where both sides are of one
    texts = [", ".join(word for word, d in zip(side, differ, strict=True) if d) for side in sides]
    common = [part[0] for part, d in zip(parts, differ, strict=True) if not d and part[0]]
    return "; ".join([(" / " if ratio else " − ").join(texts), *common])


def _words(quantity: Quantity, names: Vocabulary) -> tuple[str, str, str, str]:
    """Return what names a quantity: its curve, swept value, rounds and panel."""
    value = "" if quantity.swept is None else f"{names.sweep} = {quantity.swept:g}"
    if quantity.window is None:
        rounds = f"rounds to {quantity.level:.0%}"
    else:
        rounds = "rounds {} to {}".format(*quantity.window)
    if quantity.below is not None:
        rounds = f"share of seeds below {quantity.below:g} in {rounds}"
    return names.curves[quantity.curve], value, rounds, names.panels[quantity.panel]


def _windows(value: Any, names: Vocabulary) -> list[Window | None]:
    """Read one window, or several: each a name or [first, last]."""
    several = value if isinstance(value, list) and not _is_window(value) else [value]
    windows: list[Window | None] = []
    for window in several:
        if isinstance(window, str) and window not in names.windows:
            raise ValueError(f"window is {window!r}, expected one of {list(names.windows)}")
        pair = names.windows[window] if isinstance(window, str) else window
        windows.append(None if pair is None else (int(pair[0]), int(pair[1])))
    return windows


def _is_window(value: list[Any]) -> bool:
    return len(value) == 2 and all(isinstance(number, int) for number in value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
