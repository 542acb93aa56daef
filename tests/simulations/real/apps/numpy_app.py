"""An app on NumPy alone: each node pulls a vector towards the mean of its own data."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from hostile import hostile

from flwr_krum.boundary.nodes import name_nodes
from flwr_krum.serverapp.strategy import MultiKrum

client_app = ClientApp(mods=[hostile])


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Go half the way from the model to what this node's data say."""
    (model,) = message.content["arrays"].to_numpy_ndarrays()
    rng = np.random.default_rng(context.node_config["partition-id"])
    data = 1.0 + 0.1 * rng.normal(size=50)
    model = (model + data.mean()) / 2 + 0.01 * rng.normal(size=model.size)
    arrays = ArrayRecord([model.astype(np.float32)])
    metrics = MetricRecord({"num-examples": len(data)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train on the nodes that are there, each under the name of its key."""
    config = context.run_config
    names, _ = name_nodes(grid)
    strategy = MultiKrum(
        num_malicious_nodes=config["byzantine"],
        fraction_evaluate=0.0,
        client_id=lambda node: names.get(node, f"node {node}"),
        journal=config["journal"],
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord([np.zeros(config["size"], np.float32)]),
        num_rounds=config["num-server-rounds"],
        timeout=config["round-timeout"],
    )
