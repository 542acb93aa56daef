"""Partial training: a body that all learn, and a head that never leaves its client.

python examples/shared_keys.py
"""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from message_api import names_of, partition

from flwr_krum.serverapp.strategy import MultiKrum

TRUTH = np.array([2.0, -3.0, 0.5])
LIAR = 6


client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Learn the body and the client's own offset; send the body alone."""
    place = context.node_config["partition-id"]
    rng = np.random.default_rng(place)
    x = rng.normal(size=(60, 3))
    y = x @ TRUTH + 10.0 * place  # what differs from client to client
    body = message.content["arrays"]["body"].numpy()
    own = context.state.get("own", ArrayRecord({"head": Array(np.zeros(1))}))
    head = own["head"].numpy()
    for _ in range(20):
        wrong = x @ body + head - y
        body, head = body - 0.1 * x.T @ wrong / 60, head - 0.1 * wrong.mean()
    context.state["own"] = ArrayRecord({"head": Array(head)})
    sent = -3.0 * body if place == LIAR else body
    arrays = ArrayRecord({"body": Array(sent)})
    metrics = MetricRecord({"num-examples": 60})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


client_app.query()(partition)
server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the body for ten rounds; the server's head stays as it is."""
    names = names_of(grid, 7)
    strategy = MultiKrum(
        num_malicious_nodes=1,
        shared_keys=["body"],
        min_train_nodes=7,
        min_available_nodes=7,
        fraction_evaluate=0.0,
        client_id=names.__getitem__,
    )
    model = ArrayRecord({"body": Array(np.zeros(3)), "head": Array(np.zeros(1))})
    result = strategy.start(grid, model, num_rounds=10)
    print(f"error of the body: {np.linalg.norm(result.arrays['body'].numpy() - TRUTH):.4f}")
    print(f"head: {result.arrays['head'].numpy()}")


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    run_simulation(server_app, client_app, num_supernodes=7)
