"""A report of made-up numbers, whose ratios are known."""

import pytest

from benchmarks.peers import LEGACY, NUMBA, NUMPY
from benchmarks.results import Growth, Report, Result

MILLION = 1_000_000


def result(task, n, d, name, seconds=(), threads=1, **rest):
    seconds = tuple(seconds)
    return Result(task, n, d, 20, threads, name, seconds, seconds, **rest)


@pytest.fixture
def report():
    """Krum at n = 20: the numpy path 10 times as fast as Flower, the numba path 15 times."""
    report = Report({"processor": "an abacus"}, {"byzpy": "not installed"}, flops=1e12)
    report.results = [
        result("krum", 20, MILLION, NUMPY, [0.010, 0.010], extra=35 * MILLION, same=True),
        result("krum", 20, MILLION, NUMBA, [0.0066, 0.0067], extra=40 * MILLION, same=True),
        result("krum", 20, MILLION, LEGACY, [0.098, 0.100, 0.102], extra=160 * MILLION, same=False),
        result("krum", 500, MILLION, NUMPY, [4.0]),
        result("krum", 500, MILLION, LEGACY, skipped="skipped: projected 315 s"),
        result("floor", 20, MILLION, "one read", [0.004]),
    ]
    report.growths = [Growth(NUMPY, "d", (1, 2, 4), 20, (1.0, 2.0, 4.0), 1.0, 0.01)]
    return report
