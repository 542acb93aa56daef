"""The grid: every rule, every contestant, every size that memory and patience allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.data import Case
from benchmarks.floor import FLOOR, READ, read
from benchmarks.measure import Patience, available_bytes, in_turns
from benchmarks.peers import DISTANCE_RULES, NUMBA, NUMPY, OURS, Contestant, agree
from benchmarks.quartiles import project, quartiles, size
from benchmarks.results import Result
from flwr_krum.kernel.device import MOST_COMPILED

Tell = Callable[[str], None]

ROOM = 0.85
"""Share of the available memory that is used."""


@dataclass(frozen=True)
class Limits:
    """What a run may cost.

    Attributes
    ----------
    patience : Patience
        How often each contestant runs.
    krum_cap, cap : float
        Processor seconds that another library's run of Krum, or of another rule, may be
        projected to take.
    own_cap : float
        The same for this package, whatever the rule.
    """

    patience: Patience
    krum_cap: float
    cap: float
    own_cap: float = 60.0

    def limit(self, rule: str, name: str) -> float:
        """Return the processor seconds that a run may be projected to take."""
        if name in OURS:
            return self.own_cap
        return self.krum_cap if rule == "krum" else self.cap


def measure_cell(
    case: Case,
    rules: Sequence[str],
    contestants: Mapping[str, Contestant],
    earlier: Iterable[Result],
    limits: Limits,
    *,
    threads: int = 1,
    tell: Tell = lambda text: None,
) -> list[Result]:
    """Measure some rules on one case, and the floor beside the distance rules.

    Parameters
    ----------
    case : Case
    rules : sequence of str
    contestants : mapping of name to Contestant
    earlier : iterable of Result
        From which times are projected.
    limits : Limits
    threads : int
        As pinned by the caller.
    tell : callable
        Told what is being measured.
    """
    earlier = [r for r in earlier if r.cpu and r.threads == threads]
    blank = partial(Result, n=case.n, d=case.d, layers=len(case.sizes), threads=threads)
    inputs: dict[str, Any] = {}
    results: list[Result] = []
    for rule in rules:
        tell(f"{rule}, n = {case.n}, d = {size(case.d)}")
        calls: dict[str, Callable[[], Any]] = {}
        for name, contestant in contestants.items():
            if rule not in contestant.rules:
                continue
            if reason := _hindrance(contestant, rule, case, earlier, limits):
                results.append(blank(task=rule, name=name, skipped=reason))
                continue
            if name not in inputs:
                inputs[name] = contestant.prepare(case)
            calls[name] = partial(contestant.rules[rule], inputs[name], case.f)
        if rule == "krum":
            calls[READ] = partial(read, case, threads)

        def inspect(name: str, result: Any) -> Any:
            known = contestants.get(name)  # the floor is nobody's
            return case.sample(known.flatten(result)) if known else None

        samples = in_turns(calls, limits.patience, inspect, must=OURS)
        ours = samples[NUMPY].answer if NUMPY in samples else None
        for name, sample in samples.items():
            theirs = sample.answer
            results.append(
                blank(
                    task=FLOOR if name == READ else rule,
                    name=name,
                    cpu=sample.cpu,
                    wall=sample.wall,
                    extra=sample.extra,
                    same=None if ours is None or theirs is None else agree(theirs, ours),
                    skipped=sample.problem and f"failed: {sample.problem}",
                )
            )
    return results


def no_room(needed: float) -> str:
    """Say why so many bytes cannot be had; empty if they can."""
    if needed <= ROOM * available_bytes():
        return ""
    return f"skipped: needs {needed / 1e9:.0f} GB"


def _hindrance(
    contestant: Contestant, rule: str, case: Case, earlier: Iterable[Result], limits: Limits
) -> str:
    """Say why a contestant does not run; empty if it does."""
    name = contestant.name
    if name == NUMBA and rule in DISTANCE_RULES and case.n > MOST_COMPILED:
        return f"skipped: not chosen above n = {MOST_COMPILED}"
    measured = {
        (r.n, r.d): quartiles(r.cpu).median for r in earlier if (r.task, r.name) == (rule, name)
    }
    seconds = project(measured, case.n, case.d, 2.0 if rule in DISTANCE_RULES else 1.0)
    if seconds > limits.limit(rule, name):
        return f"skipped: projected {seconds:.0f} s"
    return no_room(contestant.copies * case.nbytes)
