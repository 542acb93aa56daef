"""Metrics that clients report about themselves, aggregated so that no client can steer them.

Each key that most clients report takes the trimmed mean over clients: the f smallest and the
f largest values are dropped. What is not a finite number, or has another length than most,
is dropped first.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from flwr_krum.updates import Float64

Metric: TypeAlias = float | list[float]


def trimmed_mean_metrics(reports: Sequence[Mapping[str, object]], f: int) -> dict[str, Metric]:
    """Return the trimmed mean of every metric that most of the reports hold.

    Parameters
    ----------
    reports : one mapping per client
        Values are numbers or lists of numbers; anything else is ignored.
    f : int
        Values to drop from each end; where 2f or fewer are there, the median is taken.
    """
    usable = [
        {key: values for key, value in report.items() if (values := _numbers(value))}
        for report in reports
    ]
    keys = Counter(key for report in usable for key in report)
    result: dict[str, Metric] = {}
    for key in sorted(key for key, count in keys.items() if 2 * count > len(reports)):
        # One kind of value stands for the key: scalars and lists of another length are dropped.
        kinds = Counter((kind, len(values)) for kind, values in _held(usable, key))
        common = kinds.most_common(1)[0][0]
        rows = [values for kind, values in _held(usable, key) if (kind, len(values)) == common]
        means = _trimmed_mean(np.array(rows), f).tolist()
        result[key] = means[0] if common[0] == "scalar" else means
    return result


Values: TypeAlias = tuple[str, list[float]]


def _held(reports: Sequence[Mapping[str, Values]], key: str) -> list[Values]:
    return [report[key] for report in reports if key in report]


def _numbers(value: object) -> Values | None:
    values: list[object] = value if isinstance(value, list) else [value]
    numbers = []
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        # A whole number may be too large for a float; that counts as infinite.
        if not abs(number) <= sys.float_info.max:
            return None
        numbers.append(float(number))
    return ("list" if isinstance(value, list) else "scalar", numbers) if numbers else None


def _trimmed_mean(rows: Float64, f: int) -> Float64:
    ordered = np.sort(rows, axis=0)
    cut = min(f, (len(ordered) - 1) // 2)
    kept = ordered[cut : len(ordered) - cut]
    # Divide first: the sum of values near the largest float would overflow.
    mean: Float64 = (kept / len(kept)).sum(axis=0)
    return mean
