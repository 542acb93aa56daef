"""A rule of one's own: on plain arrays, behind a mixing, and as the strategy of a server.

python examples/own_rule.py
"""

from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from message_api import TRUTH, client_app, names_of

from flwr_krum.rules import Choice, NearestNeighborMixing, Rule
from flwr_krum.serverapp.strategy import RobustAggregation


@dataclass(frozen=True)
class AroundMedoid(Rule):
    """Return the mean of the n - f updates closest to the medoid."""

    requirement = "2f < n"

    def least(self, f):
        """Return how many clients the rule needs for f liars."""
        return 2 * f + 1

    def choose(self, geometry, server_round):
        """Say which clients count, and how much."""
        n, distances = geometry.n, np.sqrt(geometry.squared)
        medoid = distances.sum(axis=1).argmin()
        nearest = np.argsort(distances[medoid], kind="stable")
        return Choice.uniform(n, nearest[: n - self.liars(n)].tolist())


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the clients of message_api.py with it."""
    names = names_of(grid, 10)
    strategy = RobustAggregation(
        NearestNeighborMixing(f=2) | AroundMedoid(f=2),
        min_train_nodes=10,
        min_available_nodes=10,
        fraction_evaluate=0.0,
        client_id=names.__getitem__,
    )
    result = strategy.start(grid, ArrayRecord([np.zeros(3)]), num_rounds=5)
    (weights,) = result.arrays.to_numpy_ndarrays()
    print(f"error: {np.linalg.norm(weights - TRUTH):.4f}")


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    print(AroundMedoid(f=1)(np.array([[1.0], [2.0], [3.0], [99.0]])).vector)  # [2.]
    run_simulation(server_app, client_app, num_supernodes=10)
