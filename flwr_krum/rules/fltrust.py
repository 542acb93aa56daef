"""FLTrust: the server's own update says whom to trust, and how far to go.

Source: Cao, Fang, Liu, Gong, "FLTrust: Byzantine-robust Federated Learning via Trust
Bootstrapping", NDSS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import AROUND_MODEL, Facts
from flwr_krum.rules.rule import ROOT, Choice, Rule

SHORTEST = 2.0**-20
"""Length, beside the root update's, below which an update counts as none: lengthened to that, its
direction would be what rounding left of it."""

NOBODY = "no update points where the server's own does: nobody was trusted, the model stays"


@dataclass(frozen=True)
class FLTrust(Rule):
    """Return the mean of the updates, all as long as the server's own, weighed by their cosine.

    ``w + sum_i t_i (||g|| / ||u_i||) u_i / sum_i t_i`` with ``t_i = max(0, <u_i, g> / (||u_i||
    ||g||))`` and g the update of the server's own model, which a strategy makes with ``root=``.
    The result is never further from w than that model. Where nobody has any trust, it is w. Cost
    O(n) on inner products.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``f < n``; the result does not depend on it. None is n - 1.
    strict : bool
        False allows an illegal f.

    Raises
    ------
    ValueError
        When called, if the server gives no row "root".

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_krum.rules import ClientUpdates
    >>> models, root = [[np.array([x])] for x in (3.0, 4.0, -90.0)], [np.array([2.0])]
    >>> FLTrust()(ClientUpdates.from_layers(models, server_rows={"root": root})).vector
    array([2.])
    """

    requirement = "f < n"
    facts = Facts(
        source="one honest client beside the server's own model",
        breakdown="1",
        cost="O(n^2 d); O(n d) would do",
        invariances=AROUND_MODEL,
        kappa="none: it is as good as the server's own data",
    )

    @property
    def server_rows(self) -> tuple[str, ...]:
        """The server's own model."""
        return (ROOT,)

    def least(self, f: int) -> int:
        """Return ``f + 1``: one honest client is enough beside the server's own model."""
        return f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh the clients by trust over length; what they lack of 1 lies on the global model."""
        return Choice.among_near(geometry, self._weigh)

    def _weigh(self, geometry: Geometry) -> Choice:
        n, root = geometry.n, geometry.row_of(ROOT)
        own = float(np.sqrt(max(0.0, geometry.all_products[root, root])))
        lengths = geometry.norms
        seen = (lengths > SHORTEST * own) & (own > 0.0)
        inverse = np.divide(1.0, lengths, out=np.zeros(n), where=seen)
        trust = np.maximum(geometry.all_products[:n, root] * inverse / (own or 1.0), 0.0)
        total = float(trust.sum())
        if total == 0.0:
            return Choice.of_weights(np.zeros(n), n, trust, NOBODY)
        return Choice.of_weights(trust / total * own * inverse, n, trust)
