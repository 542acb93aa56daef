"""What a run measures, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from benchmarks import machine
from benchmarks.data import draw
from benchmarks.endtoend import aggregate_fit, aggregate_train
from benchmarks.floor import gemm_flops
from benchmarks.grid import Limits, Tell, measure_cell, no_room
from benchmarks.growth import growth
from benchmarks.measure import CORES, Patience, pinned
from benchmarks.peers import (
    COORDINATE_RULES,
    NUMBA,
    OURS,
    RULES,
    Contestant,
    contestants,
    disagreements,
)
from benchmarks.quartiles import size
from benchmarks.results import Growth, Report, Result
from flwr_krum.kernel.device import MOST_COMPILED

MILLION = 1_000_000

Shape = tuple[int, int]
"""Clients and coordinates."""


@dataclass(frozen=True)
class Plan:
    """Sizes and limits of a run.

    Attributes
    ----------
    grid : shapes
        Where every rule is measured, small to large: times are projected from what is done.
    coordinate_wise : shapes
        Where the coordinate-wise rules are measured.
    fit, train : (n, d, layers)
        Rounds through whole strategies.
    over_d, over_n : (fixed, sizes)
        Where growth is measured.
    crowded : shapes
        Where Krum is measured once more with all cores for everybody.
    limits : Limits
    """

    grid: tuple[Shape, ...]
    coordinate_wise: tuple[Shape, ...]
    fit: tuple[tuple[int, int, int], ...]
    train: tuple[tuple[int, int, int], ...]
    over_d: tuple[int, tuple[int, ...]]
    over_n: tuple[int, tuple[int, ...]]
    crowded: tuple[Shape, ...]
    limits: Limits


def _by_work(ns: tuple[int, ...], ds: tuple[int, ...]) -> tuple[Shape, ...]:
    return tuple(sorted(product(ns, ds), key=lambda shape: shape[0] ** 2 * shape[1]))


FULL = Plan(
    grid=_by_work((10, 20, 50, 100, 500), (10_000, 100_000, MILLION, 10 * MILLION)),
    coordinate_wise=((20, 100_000), (10, MILLION), (20, MILLION), (100, MILLION), (500, 100_000)),
    fit=((20, 100_000, 122), (100, MILLION, 20)),
    train=((50, MILLION, 20),),
    over_d=(20, (MILLION // 2, MILLION, 2 * MILLION, 4 * MILLION, 8 * MILLION)),
    over_n=(100_000, (40, 60, 90, 120, 150, 300, 450)),
    crowded=((10, MILLION), (20, MILLION), (50, MILLION), (100, MILLION)),
    limits=Limits(Patience(seconds=1.5, most=15), krum_cap=25.0, cap=5.0),
)
QUICK = Plan(
    grid=_by_work((10, 20), (10_000, 100_000)),
    coordinate_wise=((20, 100_000),),
    fit=((20, 100_000, 122),),
    train=((10, 100_000, 20),),
    over_d=(20, (100_000, 200_000, 400_000, 800_000)),
    over_n=(20_000, (40, 60, 90, 120, 150)),
    crowded=(),
    limits=Limits(Patience(seconds=0.2, most=7), krum_cap=5.0, cap=5.0),
)


def carry_out(
    plan: Plan,
    *,
    kind: str = "heterogeneous",
    tell: Tell = lambda text: None,
    done: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Measure what a plan says.

    Parameters
    ----------
    plan : Plan
    kind : str
        How the clients' noise differs, a key of ``benchmarks.data.KINDS``.
    tell : callable
        Told what is being measured.
    done : callable
        Given the report after each cell: a long run may be cut short.

    Raises
    ------
    RuntimeError
        If a contestant picks another client than ours where all must agree.
    """
    present, absent = contestants()
    report = Report(machine.describe(present), absent, cores=CORES)
    with pinned(1):
        tell("that all do the same job")
        if found := disagreements(present):
            raise RuntimeError("; ".join(found))
        report.flops = gemm_flops()
        for results in _cells(plan, kind, present, report, tell):
            report.results += results
            done(report)
        for name in OURS:
            if name in present:
                tell(f"growth of {name}")
                report.growths += _growths(plan, present[name])
                done(report)
    with pinned(report.cores):
        for n, d in plan.crowded if report.cores > 1 else ():
            case = draw(n, d, kind=kind)
            report.results += measure_cell(
                case,
                ("krum",),
                present,
                report.results,
                plan.limits,
                threads=report.cores,
                tell=tell,
            )
            done(report)
    return report


def _cells(
    plan: Plan, kind: str, present: dict[str, Contestant], report: Report, tell: Tell
) -> Iterator[list[Result]]:
    for rules, shapes in ((RULES, plan.grid), (COORDINATE_RULES, plan.coordinate_wise)):
        for n, d in shapes:
            if reason := no_room(4 * n * d):
                yield [
                    Result(rule, n, d, 0, 1, name, skipped=reason)
                    for rule in rules
                    for name, contestant in present.items()
                    if rule in contestant.rules
                ]
            else:
                case = draw(n, d, kind=kind)
                yield measure_cell(case, rules, present, report.results, plan.limits, tell=tell)
    for measure, rounds in ((aggregate_fit, plan.fit), (aggregate_train, plan.train)):
        for n, d, layers in rounds:
            tell(f"{measure.__name__}, n = {n}, d = {size(d)}")
            yield measure(draw(n, d, layers=layers, kind=kind), plan.limits.patience)


def _growths(plan: Plan, contestant: Contestant) -> list[Growth]:
    (n, over_d), (d, over_n) = plan.over_d, plan.over_n
    if contestant.name == NUMBA:
        over_n = tuple(size for size in over_n if size <= MOST_COMPILED)
    patience = plan.limits.patience
    return [
        growth(contestant, "d", over_d, n, patience),
        growth(contestant, "n", over_n, d, patience),
    ]
