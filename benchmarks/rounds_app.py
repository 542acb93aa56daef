"""The app of `benchmarks.rounds`: clients that send noise at once, a server that notes times."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flwr.serverapp.strategy as flower
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

import flwr_krum.serverapp.strategy as ours

FROZEN, OWN = "frozen", "own"

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Send the frozen layer as it came, and noise in the other."""
    arrays = dict(next(iter(message.content.array_records.values())))
    size = arrays[OWN].shape
    arrays[OWN] = Array(np.random.default_rng().standard_normal(size, np.float32))
    metrics = MetricRecord({"num-examples": 1})
    return Message(
        RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message
    )


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Run the rounds of one way, and write what they took to a file."""
    config = context.run_config
    n, f = int(config["nodes"]), int(config["f"])
    sampling: dict[str, Any] = {
        "fraction_evaluate": 0.0,
        "min_train_nodes": n,
        "min_available_nodes": n,
    }
    strategy: Any
    if config["is-flowers"]:
        strategy = flower.MultiKrum(num_malicious_nodes=f, num_nodes_to_select=n - f, **sampling)
    else:
        lane = bool(config["lane"])
        strategy = ours.MultiKrum(num_malicious_nodes=f, lane=lane, **sampling)
    own, rounds = strategy.aggregate_train, list[dict[str, float]]()

    def noted(server_round: int, replies: Iterable[Message]) -> Any:
        replies = list(replies)
        made = max(reply.metadata.created_at for reply in replies)
        came = time.time()
        found = own(server_round, replies)
        rounds.append({"replies": len(replies), "came": came - made, "chosen": time.time() - made})
        return found

    strategy.aggregate_train = noted
    ends = list[float]()
    layers = {OWN: np.zeros(int(config["own"]), np.float32)}
    if size := int(config["frozen"]):
        layers = {FROZEN: np.random.default_rng(0).standard_normal(size, np.float32), **layers}
    strategy.start(
        grid,
        ArrayRecord({key: Array(layer) for key, layer in layers.items()}),
        num_rounds=int(config["rounds"]),
        timeout=600.0,
        evaluate_fn=lambda server_round, arrays: ends.append(time.time()),
    )
    for place, taken in enumerate(rounds):
        taken["seconds"] = ends[place + 1] - ends[place]
        if not config["is-flowers"]:
            taken["fetched"] = strategy.reports[place].fetched_bytes
    Path(str(config["result"])).write_text(json.dumps(rounds))
