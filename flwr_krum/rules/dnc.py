"""DnC: whoever stands out most along the main direction of a few drawn coordinates is left out.

Source: Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and
Defenses for Federated Learning", NDSS 2021 (divide-and-conquer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import PER_COORDINATE, Facts
from flwr_krum.rules.rule import Choice, Rule

EMPTY = "no client was kept in every repeat: the model stays"


@dataclass(frozen=True)
class DnC(Rule):
    """Return the mean of the clients that stand out in none of some random blocks of coordinates.

    Each repeat draws columns, centres them, and leaves out the ``floor(c f)`` clients of largest
    ``<V_i - mu, v>^2``, v the direction of largest variance; ties leave out the largest indices.
    Averaged are those that every repeat keeps; where these are none, the global model stays. A long
    lie hides a shorter one, and lies in many directions hide each other, so that no length of the
    result is promised. (seed, round) decide the columns. Cost O(n^2) per column.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n`` and ``c f < n``; None is as many as these allow.
    strict : bool
        False allows an illegal f; each repeat keeps at least one client.
    columns : int
        Columns of a block, >= 1; a model of no more has one block, of all.
    c : float
        Clients left out per Byzantine one, >= 0.
    repeats : int
        Blocks, >= 1.
    seed : int, optional
        Seed of the draws, >= 0. Whoever knows it knows where to lie; None draws anew each time,
        and a strategy draws one for its run.

    Raises
    ------
    ValueError
        If a parameter is not legal; when called, if n is too small for f and c.

    Examples
    --------
    >>> import numpy as np
    >>> DnC(f=1)(np.array([[1.0], [2.0], [3.0], [90.0]])).selected
    (0, 1, 2)
    """

    columns: int = 10_000
    c: float = 1.0
    repeats: int = 1
    seed: int | None = None

    requirement = "2f < n and c f < n"
    facts = Facts(
        source="to run; Shejwalkar, Houmansadr 2021",
        breakdown="0",
        cost="O(n^2) a column",
        invariances=PER_COORDINATE,
        kappa="none: lies hide each other",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("columns", self.columns, 1)
        whole_number("repeats", self.repeats, 1)
        is_number = isinstance(self.c, int | float) and not isinstance(self.c, bool)
        if not (is_number and 0.0 <= self.c < math.inf):
            raise ValueError(f"c must be a number >= 0, got {self.c!r}")
        if self.seed is not None:
            whole_number("seed", self.seed, 0)

    @property
    def is_bounded(self) -> bool:
        """False: in one direction the longest lie hides the others."""
        return False

    def least(self, f: int) -> int:
        """Return the smallest n with ``2f < n`` and ``c f < n``."""
        return max(2 * f, self._left_out(f)) + 1

    def seeded(self, seed: int) -> Self:
        """Return the rule with a seed, unless it has one."""
        return replace(self, seed=seed) if self.seed is None else self

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh those alike whom every repeat keeps."""
        n = geometry.n
        keep = max(1, n - self._left_out(self.liars(n)))
        entropy = None if self.seed is None else [self.seed, server_round]
        rng = np.random.default_rng(entropy)
        kept = set(range(n))
        for _ in range(self.repeats):
            scores = outlier_scores(geometry.columns(self._drawn(geometry.d, rng)))
            kept.intersection_update(np.argsort(scores, kind="stable")[:keep].tolist())
        if not kept:
            return Choice.of_weights(np.zeros(n), n, note=EMPTY)
        return Choice.uniform(n, sorted(kept))

    def _left_out(self, f: int) -> int:
        """Return ``floor(c f)`` of the c that is written: 0.29 times 100 is 29."""
        return int(Fraction(str(self.c)) * f)

    def _drawn(self, d: int, rng: np.random.Generator) -> Indices:
        if d <= self.columns:
            return np.arange(d)
        return np.sort(rng.choice(d, self.columns, replace=False))


def outlier_scores(block: Float64) -> Float64:
    """Return the squared offset of each row in the direction of largest variance.

    As shares of the largest, to twelve digits: rounding decides no tie. Where several directions
    vary alike, it is the offset in all of them, whatever basis of them was found.

    Parameters
    ----------
    block : (n, b)
    """
    centred = block - block.mean(axis=0)
    largest = float(np.abs(centred).max(initial=0.0))
    if largest == 0.0:
        return np.zeros(len(block))
    np.ldexp(centred, -int(np.frexp(largest)[1]), out=centred)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    scores = np.zeros(len(block))
    for i in np.flatnonzero(values >= values[-1] * (1.0 - 1e-9)):
        direction = vectors[:, i] @ centred / np.sqrt(values[i])
        scores += (centred * direction).sum(axis=1) ** 2  # row by row: twins get the same bits
    shares: Float64 = np.round(scores / scores.max(), 12)
    return shares
