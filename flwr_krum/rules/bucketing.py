"""Bucketing: the mean of every few updates, drawn anew in each round.

Source: Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via
Bucketing", ICLR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ORDERED, Facts
from flwr_krum.rules.mixing import Mixing


@dataclass(frozen=True)
class Bucketing(Mixing):
    """Average every s updates of a random permutation; the last bucket may be smaller.

    The rule behind sees ``ceil(n / s)`` vectors, up to f of which hold a Byzantine one. The
    permutation is decided by (seed, round) alone, so that a run can be repeated and resumed.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate; None is as many as the rule behind tolerates.
    s : int
        Updates in a bucket, >= 1.
    seed : int, optional
        Seed of the permutations, >= 0. Whoever knows it knows who shares a bucket; None draws
        anew each time, and a strategy draws one for its run.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_krum.rules import Average
    >>> (Bucketing(s=2, seed=0) | Average())(np.array([[0.0], [2.0], [4.0], [6.0]])).vector
    array([3.])
    """

    s: int = 2
    seed: int | None = None

    facts = Facts(
        source="none of its own: the rule behind sees ceil(n/s) rows, f of liars",
        breakdown="that of the rule behind, divided by s",
        cost="O(n d)",
        invariances=ORDERED,
        kappa="only in expectation (Karimireddy et al. 2022; not checked)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("s", self.s, 1)
        if self.seed is not None:
            whole_number("seed", self.seed, 0)

    def rows(self, n: int) -> int:
        """Return ``ceil(n / s)``."""
        return -(-n // self.s)

    def seeded(self, seed: int) -> Self:
        """Return the mixing with a seed, unless it has one."""
        return replace(self, seed=seed) if self.seed is None else self

    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return a row for every bucket."""
        n = geometry.n
        entropy = None if self.seed is None else [self.seed, server_round]
        order = np.random.default_rng(entropy).permutation(n)
        M = np.zeros((self.rows(n), n))
        M[np.arange(n) // self.s, order] = 1.0
        shares: Float64 = M / M.sum(axis=1, keepdims=True)
        return shares
