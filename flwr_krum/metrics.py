"""What clients report about themselves, aggregated so that no client can steer it.

Each metric that most clients report takes the trimmed mean over clients: the f smallest and the
f largest values are dropped, after whatever is not a finite number of the usual kind. Nothing
here touches the model.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from flwr_krum.updates import Float64

Metric: TypeAlias = float | list[float]
Kind: TypeAlias = tuple[str, int]
"""("scalar", 1) or ("list", its length)."""

_SCALAR: Kind = ("scalar", 1)
_LARGEST = sys.float_info.max

ABSURD = 100.0
"""Example counts beyond this multiple of the median are reported as absurd."""


def trimmed_mean_metrics(reports: Sequence[Mapping[str, object]], f: int) -> dict[str, Metric]:
    """Return the trimmed mean of every metric that most of the reports hold.

    Parameters
    ----------
    reports : one mapping per client
        Values are numbers or lists of numbers; anything else is ignored.
    f : int
        Values to drop from each end; where 2f or fewer are there, the median is taken.
    """
    result: dict[str, Metric] = {}
    for key, (kind, length) in _common_kinds(reports).items():
        values = [_numbers(report[key]) for report in reports if key in report]
        rows = [numbers for found, numbers in filter(None, values) if found == (kind, length)]
        means = _trimmed_mean(np.array(rows), f).tolist()
        result[key] = means[0] if kind == "scalar" else means
    return result


def doubts(reports: Sequence[Mapping[str, object]], count_key: str) -> dict[int, str]:
    """Say what is wrong with what clients report, by position; the sound ones are left out.

    Parameters
    ----------
    reports : one mapping per client
    count_key : str
        The metric that claims a number of examples.
    """
    common = _common_kinds(reports)
    counts = [report.get(count_key) for report in reports]
    sound = [number[1][0] for count in counts if (number := _numbers(count)) is not None]
    usual = sorted(sound)[(len(sound) - 1) // 2] if sound else 0.0
    found = {
        i: _doubt(report, common) or _count_doubt(count_key, report.get(count_key), usual)
        for i, report in enumerate(reports)
    }
    return {i: doubt for i, doubt in found.items() if doubt}


def _doubt(report: Mapping[str, object], common: Mapping[str, Kind]) -> str:
    for key, value in report.items():
        numbers = _numbers(value)
        if numbers is None and not isinstance(value, str | bytes | bool):
            return f"metric {key[:40]!r} is {_shown(value)}, expected finite numbers"
        if numbers is not None and key in common and numbers[0] != common[key]:
            return (
                f"metric {key[:40]!r} is a {_named(numbers[0])}, most send a {_named(common[key])}"
            )
        if numbers is not None and key not in common and common:
            return f"metric {key[:40]!r} is unknown to most"
    missing = [key for key in common if key not in report]
    return f"metric {missing[0][:40]!r} is missing" if missing else ""


def _count_doubt(key: str, count: object, usual: float) -> str:
    numbers = _numbers(count)
    if numbers is None:
        return ""
    value = numbers[1][0]
    if value <= 0:
        return f"{key!r} is {count}, expected more than 0"
    if value > ABSURD * usual:
        return f"{key!r} is {count}, the median is {usual:g}"
    return ""


def _shown(value: object) -> str:
    try:
        return repr(value)[:40]
    except ValueError:  # Python does not write out whole numbers of thousands of digits
        return "a number too long to print"


def _named(kind: Kind) -> str:
    return "number" if kind[0] == "scalar" else f"list of {kind[1]}"


def _common_kinds(reports: Sequence[Mapping[str, object]]) -> dict[str, Kind]:
    """Return the usual kind of every metric that most reports hold as numbers, sorted by key."""
    kinds: defaultdict[str, Counter[Kind]] = defaultdict(Counter)
    for report in reports:
        for key, value in report.items():
            if (numbers := _numbers(value)) is not None:
                kinds[key][numbers[0]] += 1
    return {
        key: counter.most_common(1)[0][0]
        for key, counter in sorted(kinds.items())
        if 2 * counter.total() > len(reports)
    }


def _numbers(value: object) -> tuple[Kind, list[float]] | None:
    """Return a metric's kind and numbers; None if it is anything but finite numbers."""
    if (type(value) is float or type(value) is int) and abs(value) <= _LARGEST:  # most metrics
        return _SCALAR, [float(value)]
    values: list[object] = value if isinstance(value, list) else [value]
    numbers = []
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        # A whole number may be too large for a float; that counts as infinite.
        if not abs(number) <= _LARGEST:
            return None
        numbers.append(float(number))
    if not numbers:
        return None
    return ("list" if isinstance(value, list) else "scalar", len(numbers)), numbers


def _trimmed_mean(rows: Float64, f: int) -> Float64:
    ordered = np.sort(rows, axis=0)
    cut = min(f, (len(ordered) - 1) // 2)
    kept = ordered[cut : len(ordered) - cut]
    # Divide first: the sum of values near the largest float would overflow, and may by an ulp.
    with np.errstate(over="ignore"):
        mean: Float64 = np.clip((kept / len(kept)).sum(axis=0), kept[0], kept[-1])
    return mean
