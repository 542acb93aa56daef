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

from flwr_krum.boundary.replies import quoted
from flwr_krum.kernel.arrays import Float64

Metric: TypeAlias = float | list[float]
Kind: TypeAlias = tuple[str, int]
"""("scalar", 1) or ("list", its length)."""

Parsed: TypeAlias = dict[str, tuple[Kind, list[float]]]
"""Kind and numbers of each metric that is finite numbers."""

_SCALAR: Kind = ("scalar", 1)
_LARGEST = sys.float_info.max

ABSURD = 100.0
"""Example counts beyond this multiple of the median are reported as absurd."""


class Claims:
    """What the clients of one round report.

    Parameters
    ----------
    reports : one mapping per client
        Values are numbers or lists of numbers; anything else is ignored.
    """

    def __init__(self, reports: Sequence[Mapping[str, object]]) -> None:
        self._reports = reports
        self._parsed = [_parsed(report) for report in reports]
        self._common = _common_kinds(self._parsed)

    def trimmed_means(self, f: int) -> dict[str, Metric]:
        """Return the trimmed mean of every metric that most of the reports hold.

        Parameters
        ----------
        f : int
            Values to drop from each end; where 2f or fewer are there, the median is taken.
        """
        result: dict[str, Metric] = {}
        for key, kind in self._common.items():
            same = [parsed[key] for parsed in self._parsed if key in parsed]
            rows = [numbers for found, numbers in same if found == kind]
            means = _trimmed_mean(np.array(rows), f).tolist()
            result[key] = means[0] if kind == _SCALAR else means
        return result

    def doubts(self, count_key: str) -> dict[int, str]:
        """Say what is wrong with the reports, by position; the sound ones are left out.

        Parameters
        ----------
        count_key : str
            The metric that claims a number of examples.
        """
        counts = sorted(parsed[count_key][1][0] for parsed in self._parsed if count_key in parsed)
        usual = counts[(len(counts) - 1) // 2] if counts else 0.0
        doubts: dict[int, str] = {}
        for i, (report, parsed) in enumerate(zip(self._reports, self._parsed, strict=True)):
            doubt = _doubt(report, parsed, self._common)
            if not doubt and count_key in parsed:
                doubt = _count_doubt(count_key, report[count_key], parsed[count_key][1][0], usual)
            if doubt:
                doubts[i] = doubt
        return doubts


def _doubt(report: Mapping[str, object], parsed: Parsed, common: Mapping[str, Kind]) -> str:
    for key, value in report.items():
        if key not in parsed:
            if not isinstance(value, str | bytes | bool):
                return f"metric {quoted(key, 40)} is {_shown(value)}, expected finite numbers"
        elif key in common:
            kind, usual = parsed[key][0], common[key]
            if kind != usual:
                return f"metric {quoted(key, 40)} is a {_named(kind)}, most send a {_named(usual)}"
        elif common:
            return f"metric {quoted(key, 40)} is unknown to most"
    missing = [key for key in common if key not in report]
    return f"metric {quoted(missing[0], 40)} is missing" if missing else ""


def _count_doubt(key: str, count: object, value: float, usual: float) -> str:
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


def _parsed(report: Mapping[str, object]) -> Parsed:
    """Return the metrics of a report that are numbers."""
    return {key: found for key, value in report.items() if (found := _numbers(value)) is not None}


def _common_kinds(parsed: Sequence[Parsed]) -> dict[str, Kind]:
    """Return the usual kind of every metric that most reports hold as numbers, sorted by key."""
    kinds: defaultdict[str, list[Kind]] = defaultdict(list)
    for found in parsed:
        for key, (kind, _) in found.items():
            kinds[key].append(kind)
    return {
        key: Counter(found).most_common(1)[0][0]
        for key, found in sorted(kinds.items())
        if 2 * len(found) > len(parsed)
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
    return ("list", len(numbers)) if isinstance(value, list) else _SCALAR, numbers


def _trimmed_mean(rows: Float64, f: int) -> Float64:
    ordered = np.sort(rows, axis=0)
    cut = min(f, (len(ordered) - 1) // 2)
    kept = ordered[cut : len(ordered) - cut]
    # Divide first: the sum of values near the largest float would overflow, and may by an ulp.
    with np.errstate(over="ignore"):
        mean: Float64 = (kept / len(kept)).sum(axis=0)
        clipped: Float64 = np.minimum(np.maximum(mean, kept[0]), kept[-1])
    return clipped
