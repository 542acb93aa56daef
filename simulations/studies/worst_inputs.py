"""Inputs that may bring a rule far from the mean of the honest: few places, clients around each.

The liars are the first f rows, so that ties, which go to the smallest index, go to them. The global
model is the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.arrays import Float64

MOST_HONEST_GROUPS = 3
MOST_LIARS_GROUPS = 2
MOST_AXES = 2
"""Of the space that the groups' centres lie in."""


@dataclass(frozen=True)
class Blueprint:
    """Groups of clients, each a regular simplex around a centre, in directions of its own.

    ``x_i = c_g + r_g u_i``, with u_i the m unit vectors of sum 0 that are equally far from each
    other, orthogonal to all centres and to the other groups. A radius of 0 is m copies, a group
    of one client its centre. So f colluders, two clusters, points on a line and orthogonal
    directions are all of this kind, with few numbers to search.

    Attributes
    ----------
    liars, honest : tuple of int
        Sizes of the groups.
    axes : int
        Of the space of the centres.
    """

    liars: tuple[int, ...]
    honest: tuple[int, ...]
    axes: int

    @property
    def parameters(self) -> int:
        """How many numbers make an input of it."""
        return (len(self.liars) + len(self.honest)) * (self.axes + 1)

    def rows(self, parameters: Float64) -> Float64:
        """Return the input (n, d): centres, then radii are the parameters of each group.

        Examples
        --------
        >>> Blueprint((1,), (2,), 1).rows(np.array([9.0, 0.0, 1.0, 2.0])).round(3)
        array([[ 9.   ,  0.   ,  0.   ],
               [ 1.   ,  1.414, -1.414],
               [ 1.   , -1.414,  1.414]])
        """
        sizes = (*self.liars, *self.honest)
        table = parameters.reshape(len(sizes), self.axes + 1)
        around = [m if m > 1 else 0 for m in sizes]
        rows = np.zeros((sum(sizes), self.axes + sum(around)))
        row, column = 0, self.axes
        for m, width, (*centre, radius) in zip(sizes, around, table.tolist(), strict=True):
            rows[row : row + m, : self.axes] = centre
            if width:
                simplex = (np.eye(m) - 1.0 / m) / np.sqrt(1.0 - 1.0 / m)
                rows[row : row + m, column : column + width] = radius * simplex
            row, column = row + m, column + width
        return rows

    def __str__(self) -> str:
        liars, honest = ("+".join(map(str, sizes)) for sizes in (self.liars, self.honest))
        return f"{liars} liar{'s' * (sum(self.liars) > 1)}, {honest} honest"


def draw_blueprint(n: int, f: int, rng: np.random.Generator) -> Blueprint:
    """Return groups of random number and sizes."""
    return Blueprint(
        _parts(f, MOST_LIARS_GROUPS, rng),
        _parts(n - f, MOST_HONEST_GROUPS, rng),
        int(rng.integers(1, MOST_AXES + 1)),
    )


def draw_parameters(blueprint: Blueprint, rng: np.random.Generator) -> Float64:
    """Return an input of a blueprint: scales that differ, and often no radius."""
    table = rng.standard_normal((blueprint.parameters // (blueprint.axes + 1), blueprint.axes + 1))
    table *= 10.0 ** rng.uniform(-0.5, 0.5, table.shape)
    table[rng.random(len(table)) < 0.5, -1] = 0.0
    parameters: Float64 = table.ravel()
    return parameters


def _parts(total: int, most: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Return a random sum of up to so many parts, the largest first."""
    count = int(rng.integers(1, min(most, total) + 1))
    cuts = np.sort(rng.choice(np.arange(1, total), count - 1, replace=False))
    return tuple(sorted(np.diff([0, *cuts, total]).tolist(), reverse=True))


def directed(n: int, f: int) -> list[tuple[Blueprint, Float64]]:
    """Return inputs that are known to be bad for some rule: a search begins with them.

    Two places that differ in whether the liars are at the one or the other, of which one leaves
    no rule less than f / (n - 2f); the honest in as many directions as there are of them, and all
    liars where each is closer to them than they are to each other.
    """
    few, half = Blueprint((f,), (n - 2 * f, f), 1), (n - f) // 2
    halves = Blueprint((f,), (n - f - half, half), 1)
    simplex = Blueprint((f,), (n - f,), 1)
    return [
        (few, np.array([0.0, 0.0, 0.0, 0.0, 1.0, 0.0])),
        (few, np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])),
        (halves, np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])),
        (simplex, np.array([0.9, 0.0, 0.0, 1.0])),
    ]


Family = Callable[[int, int, float], Float64]


def families(f: int) -> Mapping[str, Family]:
    """Return ways to go to infinity: (n, f, t) to an input whose honest have a spread of 1.

    The honest stand at two places, to the left and to the right of their mean.
    """
    found: dict[str, Family] = {
        "one liar at t": _one_far,
        "all liars at t": _all_far,
        "the honest at t from the global model, the liars there": _honest_far,
    }
    if f > 1:
        found["one liar at t^2, the others at t in another direction"] = _hidden
    return found


def _honest(n: int, f: int, axes: int) -> Float64:
    """Return zeros for the liars, and honest rows of mean zero and spread 1."""
    rows = np.zeros((n, axes))
    half = (n - f) // 2
    away = np.sqrt((n - f) / (2.0 * half))
    rows[f : f + half, 0], rows[n - half :, 0] = -away, away
    return rows


def _one_far(n: int, f: int, t: float) -> Float64:
    rows = _honest(n, f, 1)
    rows[0] = t
    return rows


def _all_far(n: int, f: int, t: float) -> Float64:
    rows = _honest(n, f, 1)
    rows[:f] = t
    return rows


def _honest_far(n: int, f: int, t: float) -> Float64:
    rows = _honest(n, f, 1)
    rows[f:] += t
    return rows


def _hidden(n: int, f: int, t: float) -> Float64:
    """Put all liars but one at t, where the long one moves the mean of all to: it hides them."""
    rows = _honest(n, f, 3)
    rows[0, 1] = t**2
    rows[1:f, 1] = t**2 / (n - f + 1)
    rows[1:f, 2] = t
    return rows
