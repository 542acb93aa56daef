"""Lemma 2 measured: exponents of Krum's time in n and d, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from scipy import stats

from benchmarks.data import draw
from benchmarks.measure import Patience, in_turns
from benchmarks.peers import Contestant
from benchmarks.quartiles import quartiles
from benchmarks.results import Growth
from simulations.studies.lemma_2 import fit


def growth(
    contestant: Contestant, over: str, sizes: Sequence[int], fixed: int, patience: Patience
) -> Growth:
    """Measure Krum at several sizes in turns and fit a power law.

    Parameters
    ----------
    contestant : Contestant
        Whose Krum.
    over : "n" | "d"
        What grows; the other one is ``fixed``.
    sizes : sequence of int
    fixed : int
    patience : Patience
    """
    shapes = [(size, fixed) if over == "n" else (fixed, size) for size in sizes]
    krum = contestant.rules["krum"]
    cases = {str(shape): draw(*shape) for shape in shapes}
    calls = {key: partial(krum, contestant.prepare(case), case.f) for key, case in cases.items()}
    samples = in_turns(calls, patience, must=calls)
    seconds = tuple(quartiles(samples[str(shape)].cpu).median for shape in shapes)
    exponent, half_width = power_law(sizes, seconds)
    return Growth(contestant.name, over, tuple(sizes), fixed, seconds, exponent, half_width)


def power_law(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return the exponent of ``seconds ~ size^exponent`` and half its 95 % interval.

    Raises
    ------
    ValueError
        If there are fewer than three sizes: then a line leaves nothing to judge it by.
    """
    if len(sizes) < 3:
        raise ValueError(f"{len(sizes)} sizes, expected at least 3")
    line = fit(sizes, seconds)
    return line.exponent, float(line.error * stats.t.ppf(0.975, len(sizes) - 2))
