"""What clients report about themselves, aggregated so that no minority can steer or stall it.

A metric takes the trimmed mean over clients, the f smallest and the f largest values dropped, if
more than 2f replies carry it and most agree on its kind: then liars are a minority among its
values, whoever leaves it out. Other metrics are dropped and named. A report beyond the caps is
not read at all. Nothing here touches the model.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from flwr_krum.boundary.replies import quoted
from flwr_krum.kernel.arrays import Float64

Metric: TypeAlias = float | list[float]
Kind: TypeAlias = tuple[str, int]
"""("scalar", 1) or ("list", its length)."""

Parsed: TypeAlias = dict[str, tuple[Kind, list[float]]]
"""Kind and numbers of each metric that is finite numbers."""

MOST_METRICS = 1_000
"""Metrics of one reply; a report with more is not read."""

MOST_NUMBERS = 10_000
"""Numbers in all metrics of one reply, those in lists counted one by one."""

LONGEST_METRIC = 200
"""Characters in the name of a metric."""

ABSURD = 100.0
"""Example counts beyond this multiple of the median are reported as absurd."""

_SCALAR: Kind = ("scalar", 1)
_LARGEST = sys.float_info.max
_MOST_NAMED = 20
_MOST_SHOWN = 40


class _Usual(NamedTuple):
    """How many reports hold a metric as numbers, its most frequent kind, and how often that is."""

    carriers: int
    kind: Kind
    alike: int


class Claims:
    """What the clients of one round report.

    Parameters
    ----------
    reports : one mapping per client
        Values are numbers or lists of numbers; anything else is ignored.
    f : int
        How many of the clients may lie.
    """

    def __init__(self, reports: Sequence[Mapping[str, object]], f: int) -> None:
        self._reports = reports
        self._f = f
        self._excess = [_excess(report) for report in reports]
        read = [r for r, excess in zip(reports, self._excess, strict=True) if not excess]
        carriers = Counter(chain.from_iterable(read))
        # What at most f clients report may be invented: it is not even looked at.
        self._known = {key for key, count in carriers.items() if count > f}
        self._parsed = [
            {} if excess else _parsed(report, self._known)
            for report, excess in zip(reports, self._excess, strict=True)
        ]
        self._usual = _usual_kinds(self._parsed)
        self._least = max(2 * f, len(reports) // 2) + 1

    def trimmed_means(self, count_key: str | None = None) -> dict[str, Metric]:
        """Return the trimmed mean of every metric that enough of the reports hold alike.

        Parameters
        ----------
        count_key : str, optional
            The metric that claims a number of examples: it is never aggregated.
        """
        result: dict[str, Metric] = {}
        for key, usual in self._usual.items():
            if key != count_key and usual.alike >= self._least:
                same = [parsed[key] for parsed in self._parsed if key in parsed]
                rows = np.array([numbers for kind, numbers in same if kind == usual.kind])
                means = _trimmed_mean(rows, self._f).tolist()
                result[key] = means[0] if usual.kind == _SCALAR else means
        return result

    def dropped(self, count_key: str) -> tuple[str, ...]:
        """Say which metrics are not aggregated although more than f clients report them, and why.

        Parameters
        ----------
        count_key : str
            The metric that claims a number of examples: it is never aggregated.
        """
        n, lines = len(self._reports), []
        for key, usual in self._usual.items():
            if key != count_key and self._f < usual.carriers and usual.alike < self._least:
                lines.append(
                    f"metric {_name(key)} dropped: {usual.alike} of {n} replies hold it as a "
                    f"{_named(usual.kind)}, at least {self._least} are needed"
                )
        more = len(lines) - _MOST_NAMED
        return (*lines[:_MOST_NAMED], *([f"{more} more metrics dropped"] if more > 0 else []))

    def doubts(self, count_key: str) -> dict[int, str]:
        """Say what is wrong with the reports, by position; the sound ones are left out.

        Parameters
        ----------
        count_key : str
            The metric that claims a number of examples.
        """
        common = {
            key: usual.kind
            for key, usual in self._usual.items()
            if 2 * usual.carriers > len(self._reports)
        }
        median = self._median(count_key)
        doubts: dict[int, str] = {}
        for i, (report, parsed) in enumerate(zip(self._reports, self._parsed, strict=True)):
            doubt = self._excess[i] or self._doubt(report, parsed, common)
            if not doubt and count_key in parsed and parsed[count_key][0] == _SCALAR:
                claimed = parsed[count_key][1][0]
                doubt = _count_doubt(count_key, report[count_key], claimed, median)
            if doubt:
                doubts[i] = doubt
        return doubts

    def numbers(self, key: str) -> dict[int, float]:
        """Return the number that each report gives for a metric, where it is one."""
        return {
            i: parsed[key][1][0]
            for i, parsed in enumerate(self._parsed)
            if key in parsed and parsed[key][0] == _SCALAR
        }

    def _doubt(
        self, report: Mapping[str, object], parsed: Parsed, common: Mapping[str, Kind]
    ) -> str:
        kinds = {key: kind for key, (kind, _) in parsed.items()}
        if kinds == common and len(report) == len(common):
            return ""  # most reports
        for key, value in report.items():
            if key in common and key in parsed:
                if parsed[key][0] != common[key]:
                    found, usual = _named(parsed[key][0]), _named(common[key])
                    return f"metric {_name(key)} is a {found}, most send a {usual}"
            elif isinstance(value, str | bytes | bool):
                continue
            elif key in self._known and key not in parsed:
                return f"metric {_name(key)} is {_shown(value)}, expected finite numbers"
            elif common:
                return f"metric {_name(key)} is unknown to most"
        missing = [key for key in common if key not in report]
        return f"metric {_name(missing[0])} is missing" if missing else ""

    def _median(self, count_key: str) -> float | None:
        """Return the lower median of the claimed counts, if liars cannot have chosen it."""
        usual = self._usual.get(count_key)
        if usual is None or usual.kind != _SCALAR or usual.alike < self._least:
            return None
        claimed = [parsed[count_key] for parsed in self._parsed if count_key in parsed]
        counts = sorted(numbers[0] for kind, numbers in claimed if kind == _SCALAR)
        return counts[(len(counts) - 1) // 2]


def _excess(report: Mapping[str, object]) -> str:
    """Say which cap a report exceeds, in time that does not grow with what it holds beyond it."""
    if len(report) > MOST_METRICS:
        return f"more than {MOST_METRICS} metrics: none is read"
    numbers = 0
    for key, value in report.items():
        if len(key) > LONGEST_METRIC:
            return f"a metric's name of more than {LONGEST_METRIC} characters: none is read"
        numbers += len(value) if isinstance(value, list) else 1
    if numbers > MOST_NUMBERS:
        return f"more than {MOST_NUMBERS} numbers in metrics: none is read"
    return ""


def _count_doubt(key: str, count: object, value: float, median: float | None) -> str:
    if value <= 0:
        return f"{key!r} is {_shown(count)}, expected more than 0"
    if median is not None and value > ABSURD * median:
        return f"{key!r} is {_shown(count)}, the median is {median:g}"
    return ""


def _shown(value: object) -> str:
    """Return what a client sent at a bounded length and depth."""
    if isinstance(value, list | tuple | dict | set):
        if not isinstance(value, list) or any(isinstance(x, list | tuple | dict) for x in value):
            return f"a {type(value).__name__} that holds more than numbers"
        return f"[{', '.join(_shown(x) for x in value[:10])}]"[:_MOST_SHOWN]
    if isinstance(value, str | bytes):
        value = value[:_MOST_SHOWN]
    try:
        return repr(value)[:_MOST_SHOWN]
    except ValueError:  # Python does not write out whole numbers of thousands of digits
        return "a number too long to print"


def _name(key: str) -> str:
    return quoted(key, _MOST_SHOWN)


def _named(kind: Kind) -> str:
    return "number" if kind[0] == "scalar" else f"list of {kind[1]}"


def _parsed(report: Mapping[str, object], known: Set[str]) -> Parsed:
    """Return those of the known metrics of a report that are numbers."""
    return {
        key: found
        for key, value in report.items()
        if key in known and (found := _numbers(value)) is not None
    }


def _usual_kinds(parsed: Sequence[Parsed]) -> dict[str, _Usual]:
    """Return what is usual of every metric that a report holds as numbers, sorted by key."""
    kinds: defaultdict[str, list[Kind]] = defaultdict(list)
    for found in parsed:
        for key, (kind, _) in found.items():
            kinds[key].append(kind)
    return {
        key: _Usual(len(found), *Counter(found).most_common(1)[0])
        for key, found in sorted(kinds.items())
    }


def _numbers(value: object) -> tuple[Kind, list[float]] | None:
    """Return a metric's kind and numbers; None if it is anything but finite numbers."""
    if (type(value) is float or type(value) is int) and abs(value) <= _LARGEST:  # most metrics
        return _SCALAR, [float(value)]
    values: list[Any] = value if isinstance(value, list) else [value]
    kinds = set(map(type, values))
    if not kinds or not all(issubclass(kind, int | float) and kind is not bool for kind in kinds):
        return None
    # A whole number may be too large for a float; that counts as infinite. NaN is not smaller.
    if not all(abs(number) <= _LARGEST for number in values):
        return None
    return ("list", len(values)) if isinstance(value, list) else _SCALAR, list(map(float, values))


def _trimmed_mean(rows: Float64, f: int) -> Float64:
    ordered = np.sort(rows, axis=0)
    cut = min(f, (len(ordered) - 1) // 2)
    kept = ordered[cut : len(ordered) - cut]
    # Divide first: the sum of values near the largest float would overflow, and may by an ulp.
    with np.errstate(over="ignore"):
        mean: Float64 = (kept / len(kept)).sum(axis=0)
        clipped: Float64 = np.minimum(np.maximum(mean, kept[0]), kept[-1])
    return clipped
