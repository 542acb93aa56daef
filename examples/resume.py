"""A server that goes on after a crash, from its journal and the model of the last round.

python examples/resume.py [FOLDER]   # as often as you like: two more rounds each time
"""

import os
import sys
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from message_api import client_app, names_of

from flwr_krum.serverapp.strategy import MultiKrum

FOLDER = Path("runs/resume")
ROUNDS = 2


def kept() -> tuple[int, np.ndarray]:
    """Return the last round that was kept, and its model."""
    model = FOLDER / "model.npz"
    if not model.exists():
        return 0, np.zeros(3)
    with np.load(model) as file:
        return int(file["round"]), file["weights"]


def keep(server_round: int, arrays: ArrayRecord) -> None:
    """Keep a round's model: whole, or not at all."""
    (weights,) = arrays.to_numpy_ndarrays()
    np.savez(FOLDER / "new.npz", round=server_round, weights=weights)
    os.replace(FOLDER / "new.npz", FOLDER / "model.npz")


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for some more rounds."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    done, weights = kept()
    names = names_of(grid, 10)
    strategy = MultiKrum(
        num_malicious_nodes=2,
        journal=FOLDER / "journal.jsonl",
        rounds_done=done,
        min_train_nodes=10,
        min_available_nodes=10,
        fraction_evaluate=0.0,
        client_id=names.__getitem__,
    )
    strategy.start(grid, ArrayRecord([weights]), num_rounds=ROUNDS, evaluate_fn=keep)
    print("rounds:", [report.server_round for report in strategy.reports], "in", FOLDER)


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    if len(sys.argv) > 1:
        FOLDER = Path(sys.argv[1])
    run_simulation(server_app, client_app, num_supernodes=10)
