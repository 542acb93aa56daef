"""The API of ``aggregate_fit``: one import changes, and the initial model is the server's own.

python examples/aggregate_fit.py
"""

import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.serverapp import ServerApp

from flwr_krum.server.strategy import MultiKrum  # instead of flwr.server.strategy

TRUTH = np.array([1.0, -1.0])


class Client(NumPyClient):
    """Moves half-way to the truth as its own noise has it; clients 0 and 1 break and lie."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.seen = TRUTH + 0.1 * np.random.default_rng(place).normal(size=2)

    def fit(self, parameters, config):
        """Return a model, an example count and metrics."""
        (weights,) = parameters
        model = (weights + self.seen) / 2
        if self.place == 0:
            model = model * np.nan  # refused, by name
        if self.place == 1:
            model = -5.0 * model
        return [model], 10, {}


def client_fn(context: Context):
    """Build the client of a node."""
    return Client(int(context.node_config["partition-id"])).to_client()


def evaluate(server_round, parameters, config):
    """Print how far the model is from the truth."""
    print(f"round {server_round}: error {np.linalg.norm(parameters[0] - TRUTH):.4f}")
    return 0.0, {}


def server_fn(context: Context) -> ServerAppComponents:
    """Build the server."""
    strategy = MultiKrum(
        num_malicious_clients=2,
        min_fit_clients=9,
        min_available_clients=9,
        fraction_evaluate=0.0,
        initial_parameters=ndarrays_to_parameters([np.zeros(2)]),
        evaluate_fn=evaluate,
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=6))


client_app = ClientApp(client_fn=client_fn)
server_app = ServerApp(server_fn=server_fn)


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    run_simulation(server_app, client_app, num_supernodes=9)
