"""A Flower app of the Message API: ten clients learn a linear model, and two of them lie.

python examples/message_api.py
"""

import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from flwr_krum.boundary.nodes import name_nodes
from flwr_krum.serverapp.strategy import MultiKrum  # instead of flwr.serverapp.strategy

TRUTH = np.array([2.0, -3.0, 0.5])
LIARS = {8, 9}


def honest_reply(message: Message, context: Context) -> Message:
    """Take gradient steps on data that no other client has."""
    rng = np.random.default_rng(context.node_config["partition-id"])
    x = rng.normal(size=(50, 3))
    y = x @ TRUTH + 0.1 * rng.normal(size=50)
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    for _ in range(10):
        weights = weights - 0.1 * x.T @ (x @ weights - y) / len(x)
    return reply_with(weights, message)


def reply_with(weights: np.ndarray, message: Message) -> Message:
    """Return a reply that holds a model."""
    metrics = MetricRecord({"num-examples": 50})
    content = RecordDict({"arrays": ArrayRecord([weights]), "metrics": metrics})
    return Message(content, reply_to=message)


client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Learn, or lie."""
    if context.node_config["partition-id"] in LIARS:
        return reply_with(np.full(3, 1000.0), message)
    return honest_reply(message, context)


@client_app.query()
def partition(message: Message, context: Context) -> Message:
    """Say which partition this node holds, by which the server names it: node ids are drawn."""
    held = MetricRecord({"partition-id": context.node_config["partition-id"]})
    return Message(RecordDict({"node": held}), reply_to=message)


def names_of(grid: Grid, count: int) -> dict:
    """Return the names of the nodes, once so many are there to be asked."""
    while len(list(grid.get_node_ids())) < count:
        time.sleep(0.1)
    return name_nodes(grid)[0]


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for five rounds, and say what came of it."""
    names = names_of(grid, 10)
    strategy = MultiKrum(
        num_malicious_nodes=2,
        min_train_nodes=10,
        min_available_nodes=10,
        fraction_evaluate=0.0,
        client_id=names.__getitem__,
    )
    result = strategy.start(grid, ArrayRecord([np.zeros(3)]), num_rounds=5)
    for report in strategy.reports:
        print(f"round {report.server_round}: {len(report.selected)} of {len(report.received)}")
    (weights,) = result.arrays.to_numpy_ndarrays()
    print(f"error: {np.linalg.norm(weights - TRUTH):.4f}")


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    run_simulation(server_app, client_app, num_supernodes=10)
