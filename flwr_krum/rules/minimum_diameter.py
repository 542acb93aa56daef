"""Minimum-diameter averaging: the n - f updates that lie closest together.

Source: El Mhamdi, Guerraoui, Guirguis, Hoang, Rouault, "Genuinely Distributed Byzantine Machine
Learning", PODC 2020 (MDA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flwr_krum.checks import whole_number
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ORDERED, Facts
from flwr_krum.rules.rule import Choice, Rule


class _TooLongError(Exception):
    """The search took more nodes than it may."""


@dataclass(frozen=True)
class MinimumDiameter(Rule):
    """Return the mean of the S of n - f clients with the smallest ``max_{i,j in S} ||V_i - V_j||``.

    Exact without trying all sets: a diameter t is possible where at most f clients cover every
    pair that is further apart than t (a vertex cover). The smallest t is found by bisection; of
    several sets of that diameter, which is no corner case, the lexicographically first is taken.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f; at least one client is kept.
    most_nodes : int
        Nodes of the search for a cover, >= 1: liars may place themselves so that it grows as
        ``1.5^f``. Beyond it the smallest diameter that was reached is taken, and the report says
        so.

    Examples
    --------
    >>> import numpy as np
    >>> MinimumDiameter(f=1)(np.array([[1.0], [2.0], [3.0], [90.0]])).selected
    (0, 1, 2)
    """

    most_nodes: int = 20_000

    requirement = "2f < n"
    facts = Facts(
        source="any two sets of n - f clients share an honest one for 2f < n",
        breakdown="1/2",
        cost="O(n^2 d), and a search of up to most_nodes nodes",
        invariances=ORDERED,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("most_nodes", self.most_nodes, 1)

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Find the smallest diameter, then the first set that has it."""
        n, squared = geometry.n, geometry.squared
        f = min(self.liars(n), n - 1)
        search = _Search(self.most_nodes)
        diameters = np.unique(squared)
        low, high = 0, len(diameters) - 1
        note = ""
        try:
            while low < high:
                middle = (low + high) // 2
                if search.covers(squared > diameters[middle], f):
                    high = middle
                else:
                    low = middle + 1
            kept = search.first_without_edges(squared > diameters[high], f)
        except _TooLongError:
            note = f"the search for the smallest diameter ended after {self.most_nodes} nodes"
            kept = _closest_to_one(squared, n - f)
        uniform = Choice.uniform(n, kept)
        return Choice(uniform.mix, None, uniform.selected, None, note)


class _Search:
    """Vertex covers of few vertices, within a number of nodes."""

    def __init__(self, most_nodes: int) -> None:
        self._left = most_nodes

    def covers(self, edges: NDArray[np.bool_], budget: int) -> bool:
        """Say whether at most ``budget`` vertices touch every edge."""
        self._left -= 1
        if self._left < 0:
            raise _TooLongError
        degrees = edges.sum(axis=1)
        v = int(np.argmax(degrees))
        if degrees[v] == 0:
            return True
        if budget == 0 or degrees.sum() > 2 * budget * degrees[v]:
            return False
        # Either the vertex is in the cover, or all its neighbours are.
        if self.covers(_without(edges, [v]), budget - 1):
            return True
        neighbours = np.flatnonzero(edges[v])
        if len(neighbours) > budget:
            return False
        return self.covers(_without(edges, neighbours.tolist()), budget - len(neighbours))

    def first_without_edges(self, edges: NDArray[np.bool_], budget: int) -> list[int]:
        """Return the first n - budget vertices, by index, that have no edge among them."""
        kept: list[int] = []
        n = len(edges)
        for v in range(n):
            if len(kept) == n - budget:
                break
            # To keep a vertex is to have all its neighbours in the cover.
            forced = np.flatnonzero(edges[[*kept, v]].any(axis=0))
            fits = len(forced) <= budget and v not in forced
            rest = _without(edges, [*forced.tolist(), *kept, v])
            if fits and self.covers(rest, budget - len(forced)):
                kept.append(v)
        return kept


def _without(edges: NDArray[np.bool_], vertices: list[int]) -> NDArray[np.bool_]:
    left = edges.copy()
    left[vertices] = False
    left[:, vertices] = False
    return left


def _closest_to_one(squared: NDArray[np.float64], count: int) -> list[int]:
    """Return the count vectors around the one whose count-th neighbour is closest."""
    order = np.argsort(squared, axis=1, kind="stable")[:, :count]
    reach = np.take_along_axis(squared, order[:, -1:], axis=1)
    return sorted(order[int(np.argmin(reach))].tolist())
