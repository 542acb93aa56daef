"""Tables of a report, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich import box
from rich.table import Table as RichTable

from benchmarks.bars import MEGABYTE, bars
from benchmarks.endtoend import FIT, TRAIN
from benchmarks.floor import FLOOR, READ, floor_seconds
from benchmarks.peers import COORDINATE_RULES, LEGACY, MESSAGE, NUMBA, NUMPY, OURS, RULES, THEIRS
from benchmarks.quartiles import number, quartiles, ratio, size
from benchmarks.results import Report, Result

Cell = Callable[[dict[str, Result], str], str]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns under a title, with a note below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [
            f"### {self.title}",
            "",
            f"| {' | '.join(self.columns)} |",
            f"|{'|'.join(' ---: ' if i else ' --- ' for i in range(len(self.columns)))}|",
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
        return "\n".join([*lines, "", self.note, ""] if self.note else [*lines, ""])

    def rich(self) -> RichTable:
        """Return the table for a terminal."""
        table = RichTable(
            title=self.title,
            caption=self.note or None,
            box=box.SIMPLE,
            min_width=len(self.title) + 2,
        )
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def tables(report: Report) -> Iterator[Table]:
    """Yield every table that the report has numbers for, the promises first."""
    yield promises(report)
    yield from _rule_tables(report, "krum")
    yield from _end_to_end(report)
    for rule in (*RULES[1:], *COORDINATE_RULES):
        if report.cells(rule):
            yield milliseconds(report, rule)
            yield both_ratios(report, rule)
    if report.growths:
        yield exponents(report)


def promises(report: Report) -> Table:
    """Return what was promised beside what was measured."""
    rows = tuple((b.promise, b.path, b.bound, b.measured, b.verdict) for b in bars(report))
    return Table(
        "What is promised, and what was measured",
        ("promise", "path", "bound", "measured", "verdict"),
        rows,
        "Ratios of processor time with everybody on one core: median (quartiles) of the quotients "
        "of each run of theirs and each of ours. Wall: on all cores.",
    )


def _rule_tables(report: Report, rule: str) -> Iterator[Table]:
    if not report.cells(rule):
        return
    yield milliseconds(report, rule)
    for path in OURS:
        if any(r.cpu for r in report.select(rule) if r.name == path):
            yield _ratios(report, rule, path, "cpu", 1)
            if report.cores > 1 and report.cells(rule, report.cores):
                yield _ratios(report, rule, path, "wall", report.cores)
    yield memory(report, rule)


def milliseconds(report: Report, rule: str) -> Table:
    """Return the median processor milliseconds of every contestant, and why some have none."""
    names = _names(report, rule)
    rows = []
    for n, d in report.cells(rule):
        cell = report.cell(rule, n, d)
        rows.append((*_size(n, d), _floor(report, n, d), *(_median(cell, name) for name in names)))
    note = _differing(report, rule)
    return Table(f"{rule}: processor milliseconds", ("n", "d", FLOOR, *names), tuple(rows), note)


def both_ratios(report: Report, rule: str) -> Table:
    """Return each contestant's processor time over ours, medians of both paths in one cell."""

    def text(cell: dict[str, Result], name: str) -> str:
        shown = [_quotient(cell, name, path, "cpu", brief=True) for path in OURS]
        return " / ".join(shown) if any(s != "-" for s in shown) else "-"

    return _by_peer(report, rule, f"{rule}: processor time over that of {NUMPY} / {NUMBA}", text, 1)


def _ratios(report: Report, rule: str, path: str, clock: str, threads: int) -> Table:
    what = {"cpu": "processor time", "wall": "wall time"}[clock]
    where = "on one core" if threads == 1 else f"on {threads} cores"
    return _by_peer(
        report,
        rule,
        f"{rule}: {what} of others over that of {path}, {where}",
        lambda cell, name: _quotient(cell, name, path, clock),
        threads,
    )


def _by_peer(report: Report, rule: str, title: str, text: Cell, threads: int) -> Table:
    names = [name for name in _names(report, rule) if name in THEIRS]
    rows = []
    for n, d in report.cells(rule, threads):
        cell = report.cell(rule, n, d, threads)
        rows.append((*_size(n, d), *(text(cell, name) for name in names)))
    return Table(title, ("n", "d", *names), tuple(rows))


def memory(report: Report, rule: str) -> Table:
    """Return the peak extra megabytes of every contestant, beside those of the inputs."""
    names = _names(report, rule)

    def text(cell: dict[str, Result], name: str) -> str:
        result = cell.get(name)
        if result is None or result.extra is None:
            return "-"
        return number(result.extra / MEGABYTE)

    rows = []
    for n, d in report.cells(rule):
        cell = report.cell(rule, n, d)
        inputs = number(4 * n * d / MEGABYTE)
        rows.append((*_size(n, d), inputs, *(text(cell, name) for name in names)))
    columns = ("n", "d", "inputs", *names)
    return Table(f"{rule}: peak extra megabytes, the result among them", columns, tuple(rows))


def _end_to_end(report: Report) -> Iterator[Table]:
    rows = []
    for task, flower in ((FIT, LEGACY), (TRAIN, MESSAGE)):
        for n, d in report.cells(task):
            cell = report.cell(task, n, d)
            layers = str(next(iter(cell.values())).layers)
            times = [_quotient(cell, flower, path, "cpu") for path in OURS]
            medians = [_median(cell, name) for name in (flower, *OURS)]
            rows.append((task, *_size(n, d), layers, *medians, *times))
    if rows:
        columns = ("strategy", "n", "d", "arrays", "Flower", *OURS, *(f"times {p}" for p in OURS))
        yield Table(
            "From received bytes to the encoded model: processor milliseconds",
            columns,
            tuple(rows),
            f"{FIT}: Krum; {TRAIN}: Multi-Krum of n - f. Checks of every reply included in ours. "
            + " ".join(filter(None, (_differing(report, task) for task in (FIT, TRAIN)))),
        )


def exponents(report: Report) -> Table:
    """Return how Krum's time grows (Lemma 2: O(n^2 d))."""
    rows = tuple(
        (
            g.name,
            f"{g.over} at {'d' if g.over == 'n' else 'n'} = {size(g.fixed)}",
            ", ".join(size(s) for s in g.sizes),
            ", ".join(number(1e3 * s) for s in g.seconds),
            f"{g.exponent:.3f} +- {g.half_width:.3f}",
        )
        for g in report.growths
    )
    return Table(
        "Krum's time grows as n^2 d at most (Lemma 2)",
        ("path", "over", "sizes", "processor milliseconds", "exponent, 95 %"),
        rows,
    )


def _names(report: Report, rule: str) -> list[str]:
    measured = {r.name for r in report.select(rule)}
    return [name for name in (*OURS, *THEIRS) if name in measured]


def _differing(report: Report, task: str) -> str:
    """Say whose result is another one than ours, and where."""
    others = [
        f"{r.name} at n = {r.n}, d = {size(r.d)}" for r in report.select(task) if r.same is False
    ]
    return f"Another result than ours: {'; '.join(others)}." if others else ""


def _size(n: int, d: int) -> tuple[str, str]:
    return str(n), size(d)


def _median(cell: dict[str, Result], name: str) -> str:
    result = cell.get(name)
    if result is None:
        return "-"
    if not result.cpu:
        return result.skipped
    return number(1e3 * quartiles(result.cpu).median)


def _quotient(
    cell: dict[str, Result], name: str, path: str, clock: str, brief: bool = False
) -> str:
    theirs, ours = cell.get(name), cell.get(path)
    if not (theirs and ours and theirs.cpu and ours.cpu):
        return "-"
    times = ratio(getattr(theirs, clock), getattr(ours, clock))
    return number(times.median) if brief else str(times)


def _floor(report: Report, n: int, d: int) -> str:
    read = report.cell(FLOOR, n, d).get(READ)
    if read is None:
        return "-"
    return number(1e3 * floor_seconds(quartiles(read.cpu).median, n, d, report.flops))
