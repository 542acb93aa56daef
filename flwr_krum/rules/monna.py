"""MoNNA: the mean of the updates nearest to one that the server can trust.

Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan, "Robust Collaborative Learning with
Linear Gradient Overhead", ICML 2023 (nearest-neighbour averaging, there around a node's own
vector).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts
from flwr_krum.rules.rule import ROOT, Choice, Rule

Pivot = Literal["root", "step"]
"""What the server measures from: its own model, or the global one moved by the last step again."""


@dataclass(frozen=True)
class MoNNA(Rule):
    """Return the mean of the n - f vectors nearest to a pivot of the server's, never a client's.

    ``1/(n - f) sum_{i near p} V_i``, ties to the smallest index. The pivot itself is not averaged:
    whoever owned it would own the result. Cost O(n) on the distances from it.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f; at least one client is kept.
    pivot : "root" | "step"
        The server's own model, which a strategy makes with ``root=``, or the global model moved by
        the last step again; before there is one, the global model.

    Raises
    ------
    ValueError
        If there is no such pivot; when called, if the server gives no such row.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_krum.rules import ClientUpdates
    >>> models, root = [[np.array([x])] for x in (1.0, 2.0, 90.0)], [np.array([2.5])]
    >>> MoNNA(f=1)(ClientUpdates.from_layers(models, server_rows={"root": root})).vector
    array([1.5])
    """

    pivot: Pivot = ROOT

    requirement = "2f < n"
    facts = Facts(
        source="to run; Farhadkhani et al. 2023 ask for more (not checked)",
        breakdown="1/2",
        cost="O(n^2 d); O(n d) would do",
        invariances=ALL,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pivot not in get_args(Pivot):
            raise ValueError(f"pivot must be one of {get_args(Pivot)}, got {self.pivot!r}")

    @property
    def server_rows(self) -> tuple[str, ...]:
        """The pivot."""
        return (self.pivot,)

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh the nearest alike."""
        n = geometry.n
        apart = geometry.all_squared[geometry.row_of(self.pivot), :n]
        order = np.argsort(apart, kind="stable")
        return Choice.uniform(n, order[: max(1, n - self.liars(n))].tolist())
