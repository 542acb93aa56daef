"""Centred clipping: steps towards the clients that are never longer than tau.

Source: Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization", ICML
2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from flwr_krum.checks import whole_number
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import AROUND_MODEL, Facts
from flwr_krum.rules.rule import STEP, Choice, Rule

Start = Literal["model", "step"]
"""The global model, or that model moved by the last step again."""


@dataclass(frozen=True)
class CenteredClipping(Rule):
    """Return v after some steps ``v <- v + (1/n) sum_i (V_i - v) min(1, tau / ||V_i - v||)``.

    v begins at the global model, or with memory at that model moved by the last step again. f
    Byzantine clients move it by at most ``f tau steps / n``. Cost O(n^2) a step.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f < n``; None is (n - 1) // 2.
    strict : bool
        False allows an illegal f.
    tau : float, optional
        Longest pull of a client, in the unit of the updates, > 0. No number fits all models; None
        is the median distance of the clients from v, anew in each step.
    steps : int
        >= 1.
    start : "model" | "step"
        Where v begins. The last step is the server's own memory; before there is one, "step" is
        the global model.

    Examples
    --------
    >>> import numpy as np
    >>> CenteredClipping(tau=1.0)(np.array([[0.5], [-8.0]])).vector
    array([-0.25])
    """

    tau: float | None = None
    steps: int = 1
    start: Start = "model"

    requirement = "2f < n"
    facts = Facts(
        source="to run; Karimireddy et al. 2021 ask for more (not checked)",
        breakdown="1/2",
        cost="O(n^2 d), and O(n^2) a step",
        invariances=AROUND_MODEL,
        kappa="none: tau would have to come from the variance of the honest",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("steps", self.steps, 1)
        if self.tau is not None and not self.tau > 0.0:
            raise ValueError(f"tau must be a number > 0, got {self.tau!r}")
        if self.start not in get_args(Start):
            raise ValueError(f"start must be one of {get_args(Start)}, got {self.start!r}")

    @property
    def server_rows(self) -> tuple[str, ...]:
        """The last step, with memory."""
        return (STEP,) if self.start == STEP else ()

    def least(self, f: int) -> int:
        """Return ``2f + 1``."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Keep v as weights over all rows; what they lack of 1 lies on the global model."""
        return Choice.among_near(geometry, self._weigh)

    def _weigh(self, geometry: Geometry) -> Choice:
        n, products = geometry.n, geometry.all_products
        weights = np.zeros(len(products))
        for name in self.server_rows:
            weights[geometry.row_of(name)] = 1.0
        for _ in range(self.steps):
            along = products @ weights
            squared = weights @ along - 2.0 * along + np.diagonal(products)
            apart = np.sqrt(np.maximum(squared[:n], 0.0))
            tau = float(np.median(apart)) if self.tau is None else self.tau * geometry.scale
            pull = np.divide(tau, apart, out=np.ones(n), where=apart > tau) / n
            weights *= 1.0 - pull.sum()
            weights[:n] += pull
        return Choice.of_weights(weights, n)
