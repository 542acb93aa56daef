"""How two implementations of a rule are compared, and how a cause of deviation is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conformance.samples import Float64, Sample

Solve: TypeAlias = Callable[[Sample], Float64]
"""Maps a round to the aggregate (d,), or to the mixed models (m, d)."""

Run: TypeAlias = Callable[[Float64, int], Any]
"""Maps updates (n, d) and f to what a library makes of them, (d,) or (m, d)."""

Pairs: TypeAlias = tuple[tuple[Sample, Float64], ...]
"""Rounds, each with a result."""

TOLERANCE = 1e-6
"""Largest difference of two results that agree, in units of the largest coordinate of an update."""


def on_updates(run: Run) -> Solve:
    """Feed a library the updates, and add what it returns to the global model."""
    return lambda sample: sample.w + _array(run(sample.updates.copy(), sample.f))


def on_models(run: Run) -> Solve:
    """Feed a library the models themselves."""
    return lambda sample: _array(run(sample.V.copy(), sample.f))


def about_the_origin(solve: Solve) -> Solve:
    """Measure lengths from the origin, as if the models were the updates."""
    return lambda sample: solve(replace(sample, w=np.zeros_like(sample.w)))


def seeded(solve: Solve, seed: int) -> Solve:
    """Seed the generators that libraries draw from before each call."""

    def solve_seeded(sample: Sample) -> Float64:
        np.random.seed(seed)  # noqa: NPY002 - what ByzFL draws from
        torch.manual_seed(seed)
        return solve(sample)

    return solve_seeded


def _array(result: Any) -> Float64:
    if isinstance(result, list):
        return np.array([_array(row) for row in result])
    return np.asarray(result, dtype=np.float64)


def difference(a: NDArray[Any], b: NDArray[Any], sample: Sample) -> float:
    """Return the largest difference in units of the largest update; infinite if not comparable."""
    if a.shape != b.shape:
        return np.inf
    unit = float(np.abs(sample.updates).max()) or 1.0
    apart = float(np.abs(a - b).max()) / unit
    return apart if np.isfinite(apart) else np.inf


@dataclass(frozen=True)
class Tally:
    """On how many inputs two implementations agree.

    Attributes
    ----------
    inputs, agreeing : int
    largest : float
        The largest difference among inputs on which both return something.
    raised : int
        Inputs on which the second one raised.
    error : str
        The first thing it raised.
    """

    inputs: int
    agreeing: int
    largest: float = 0.0
    raised: int = 0
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Whether they agree on every input."""
        return self.agreeing == self.inputs


def tally(theirs: Solve, expected: Pairs) -> Tally:
    """Return on how many inputs an implementation returns what is expected."""
    apart, errors = [], []
    for sample, result in expected:
        try:
            found = theirs(sample)
        except Exception as error:  # whatever a library raises is a finding
            errors.append(f"{type(error).__name__}: {error}")
        else:
            apart.append(difference(result, found, sample))
    return Tally(
        len(expected),
        sum(each <= TOLERANCE for each in apart),
        max(apart, default=0.0),
        len(errors),
        errors[0] if errors else "",
    )


@dataclass(frozen=True)
class Deviation:
    """What a library may do otherwise than the definition, and a rule that does just that."""

    text: str
    variant: Solve


@dataclass(frozen=True)
class Tried:
    """A deviation, and on how many random and tied inputs its variant agrees with the library."""

    text: str
    random: Tally
    tied: Tally


@dataclass(frozen=True)
class Line:
    """A library beside the definition: on the worked examples, random inputs, and ties.

    Attributes
    ----------
    peer, version : str
    worked, random, tied : Tally
    itself : Tally or None
        Where it deviates, with itself under another seed, on the random inputs.
    cause : Tried or None
        The deviation whose variant agrees with it most often; None where it does not deviate, or
        none is known.
    """

    peer: str
    version: str
    worked: Tally
    random: Tally
    tied: Tally
    itself: Tally | None = None
    cause: Tried | None = None

    @property
    def deviates(self) -> bool:
        """Whether it does so on an input without ties."""
        return not (self.worked.agrees and self.random.agrees)

    @property
    def is_explained(self) -> bool:
        """Whether a variant agrees with it wherever it was to explain something."""
        if self.cause is None or not self.cause.random.inputs:
            return False
        return self.cause.random.agrees and (self.deviates or self.cause.tied.agrees)


@dataclass(frozen=True)
class Inputs:
    """Inputs with what the definition makes of them."""

    worked: Pairs
    random: Pairs
    tied: Pairs


def examined(
    peer: str, version: str, theirs: Solve, inputs: Inputs, deviations: Sequence[Deviation] = ()
) -> Line:
    """Compare a library with the definition, and try to explain where it deviates."""
    first = seeded(theirs, 0)
    worked, random, tied = (
        tally(first, expected) for expected in (inputs.worked, inputs.random, inputs.tied)
    )
    if random.agrees and tied.agrees:
        return Line(peer, version, worked, random, tied)
    answers = [_answered(first, expected) for expected in (inputs.random, inputs.tied)]
    tried = [
        Tried(deviation.text, *(tally(seeded(deviation.variant, 0), each) for each in answers))
        for deviation in deviations
    ]
    itself = tally(seeded(theirs, 1), answers[0])
    cause = max(tried, key=lambda each: (each.random.agreeing, each.tied.agreeing), default=None)
    return Line(peer, version, worked, random, tied, itself, cause)


def _answered(theirs: Solve, expected: Pairs) -> Pairs:
    """Return inputs with what a library makes of them, those left out on which it raises."""
    answers = []
    for sample, _ in expected:
        try:
            answers.append((sample, theirs(sample)))
        except Exception:  # told where it is compared with the definition
            continue
    return tuple(answers)
