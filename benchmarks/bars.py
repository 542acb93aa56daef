"""What was promised, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.endtoend import FIT, TRAIN
from benchmarks.floor import FLOOR, READ, floor_seconds
from benchmarks.peers import (
    BYZFL_TORCH,
    BYZPY,
    COORDINATE_RULES,
    KRUM,
    LEGACY,
    MESSAGE,
    NUMBA,
    OURS,
    RULES,
    THEIRS,
)
from benchmarks.quartiles import Quartiles, number, quartiles, ratio, size
from benchmarks.results import Report, Result

MILLION = 1_000_000
MEGABYTE = 1_000_000

Promise = tuple[str, int, int, str, float, float]
"""Task, n, d, contestant, times at least for the numpy and for the numba path."""

FASTER: tuple[Promise, ...] = (
    ("krum", 20, MILLION, LEGACY, 3, 10),
    ("krum", 20, MILLION, MESSAGE, 2, 7),
    ("krum", 20, MILLION, BYZFL_TORCH, 6, 20),
    ("krum", 20, MILLION, KRUM, 6, 20),
    ("krum", 20, MILLION, BYZPY, 2.5, 9),
    ("krum", 100, MILLION, LEGACY, 6, 15),
    ("krum", 100, MILLION, MESSAGE, 3, 7),
    ("krum", 100, MILLION, BYZFL_TORCH, 4, 6),
    ("krum", 100, MILLION, KRUM, 4, 6),
    ("krum", 100, MILLION, BYZPY, 1.5, 3),
    (FIT, 20, 100_000, LEGACY, 3, 3),
    (FIT, 100, MILLION, LEGACY, 5, 12),
    (TRAIN, 50, MILLION, MESSAGE, 1, 2),
    ("median", 10, MILLION, LEGACY, 6, 10),
    ("median", 20, MILLION, LEGACY, 6, 10),
    ("median", 100, MILLION, LEGACY, 4, 6),
)
"""Four fifths, or less, of what machines of two kinds measured."""

EVERY_RULE = (*RULES, *COORDINATE_RULES)
AVERAGE = "average"

BESIDE: tuple[tuple[str, tuple[str, ...], tuple[str, ...], float], ...] = (
    ("Krum: never slower than any", ("krum",), THEIRS, 1.0),
    ("every rule: never slower than Flower's Message API", EVERY_RULE, (MESSAGE,), 1.0),
    (
        "other rules that choose or sort: speed beside the fastest",
        tuple(rule for rule in EVERY_RULE if rule not in ("krum", AVERAGE)),
        THEIRS,
        0.4,
    ),
    ("the average, summed in float64: speed beside float32's", (AVERAGE,), THEIRS, 0.2),
)
"""Label, rules, other contestants, and the least ratio of their time to ours, above 1 ms."""

NEAR_FLOOR = ((10, MILLION, 3.0), (100, MILLION, 5.0))
EXTRA_MEGABYTES = 32.0
MOST_EXPONENTS = (("d", 1.05), ("n", 2.0))


@dataclass(frozen=True)
class Bar:
    """A promise, what was measured, and whether it holds; ``holds`` is None if not measured."""

    promise: str
    path: str
    bound: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Say it in a word."""
        return {True: "pass", False: "FAIL", None: "not measured"}[self.holds]


def bars(report: Report) -> list[Bar]:
    """Return every promise with what this run has to say about it."""
    return [
        *_faster(report),
        *(bar for promise in BESIDE for bar in _beside(report, *promise)),
        *_memory(report),
        *_growth(report),
        *_near_floor(report),
    ]


def _faster(report: Report) -> Iterator[Bar]:
    for task, n, d, name, *bounds in FASTER:
        cell = report.cell(task, n, d)
        for path, least in zip(OURS, bounds, strict=True):
            promise = f"{task}, n = {n}, d = {size(d)}: times {name}"
            theirs, ours = cell.get(name), cell.get(path)
            if not (theirs and ours and theirs.cpu and ours.cpu):
                yield Bar(promise, path, f">= {least:g}", "", None)
                continue
            times = ratio(theirs.cpu, ours.cpu)
            text = str(times) + _wall(report.cell(task, n, d, report.cores), name, path)
            yield Bar(promise, path, f">= {least:g}", text, times.median >= least)


def _wall(cell: dict[str, Result], name: str, path: str) -> str:
    """Say what the ratio is for those who wait, where all cores were measured as well."""
    theirs, ours = cell.get(name), cell.get(path)
    if not (theirs and ours and theirs.wall and ours.wall and ours.threads > 1):
        return ""
    return f"; wall {number(ratio(theirs.wall, ours.wall).median)}"


def _beside(
    report: Report, label: str, rules: tuple[str, ...], others: tuple[str, ...], least: float
) -> Iterator[Bar]:
    promise, bound = f"{label}, above 1 ms", f">= {least:g}"
    for path in OURS:
        found = [
            quotient
            for rule in rules
            for n, d in report.cells(rule)
            for quotient in _quotients(report.cell(rule, n, d), path, others)
        ]
        if not found:
            yield Bar(promise, path, bound, "", None)
            continue
        slower = sum(times.median < 1.0 for times, _ in found)
        worst, where = min(found, key=lambda item: item[0].median)
        text = f"least {worst} ({where}); below 1 in {slower} of {len(found)}"
        yield Bar(promise, path, bound, text, worst.median >= least)


def _quotients(
    cell: dict[str, Result], path: str, others: tuple[str, ...]
) -> Iterator[tuple[Quartiles, str]]:
    ours = cell.get(path)
    if not (ours and ours.cpu):
        return
    for name in others:
        theirs = cell.get(name)
        if theirs and theirs.cpu and max(_middle(theirs), _middle(ours)) > 1e-3:
            where = f"{name}, {ours.task}, n = {ours.n}, d = {size(ours.d)}"
            yield ratio(theirs.cpu, ours.cpu), where


def _middle(result: Result) -> float:
    return quartiles(result.cpu).median


def _memory(report: Report) -> Iterator[Bar]:
    for path in OURS:
        extras = [
            ((r.extra - 4 * r.d) / MEGABYTE, f"{r.task}, n = {r.n}, d = {size(r.d)}")
            for r in report.results
            if r.name == path and r.extra is not None and r.threads == 1
        ]
        promise, bound = "extra memory beside the result", f"< {EXTRA_MEGABYTES:.0f} MB"
        if not extras:
            yield Bar(promise, path, bound, "", None)
            continue
        most, where = max(extras)
        holds = most < EXTRA_MEGABYTES
        yield Bar(promise, path, bound, f"at most {max(most, 0):.1f} MB ({where})", holds)


def _growth(report: Report) -> Iterator[Bar]:
    for over, most in MOST_EXPONENTS:
        bound = f"<= {most:g}"
        for path in OURS:
            fits = [g for g in report.growths if (g.name, g.over) == (path, over)]
            for g in fits:
                text = f"{g.exponent:.3f} +- {g.half_width:.3f}"
                yield Bar(f"exponent of {over}", path, bound, text, g.exponent <= most)
            if not fits:
                yield Bar(f"exponent of {over}", path, bound, "", None)


def _near_floor(report: Report) -> Iterator[Bar]:
    for n, d, most in NEAR_FLOOR:
        promise, bound = f"krum, n = {n}, d = {size(d)}: times the floor", f"<= {most:g}"
        times = _over_floor(report, n, d, threads=1)
        if times is None:
            yield Bar(promise, NUMBA, bound, "", None)
            continue
        wall = _over_floor(report, n, d, report.cores) if report.cores > 1 else None
        text = f"{times}; wall on all cores {wall}" if wall else str(times)
        yield Bar(promise, NUMBA, bound, text, times.median <= most)


def _over_floor(report: Report, n: int, d: int, threads: int) -> Quartiles | None:
    ours = report.cell("krum", n, d, threads).get(NUMBA)
    read = report.cell(FLOOR, n, d, threads).get(READ)
    if not (ours and read and ours.wall):
        return None
    flops = report.flops * threads
    floors = [floor_seconds(seconds, n, d, flops) for seconds in _seconds(read, threads)]
    return ratio(_seconds(ours, threads), floors)


def _seconds(result: Result, threads: int) -> tuple[float, ...]:
    """Return processor seconds on one core, wall seconds on several."""
    return result.cpu if threads == 1 else result.wall
