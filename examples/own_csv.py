"""A table of one's own as the task of a simulation: the last column of a row is its label.

python examples/own_csv.py mine.csv
"""

import sys

from simulations.engines.engines import quiet_flower, run
from simulations.run.config import RunConfig
from simulations.run.history import RoundRecord


def learn(path: str, rule: str, folder: str) -> float:
    """Return the accuracy after 50 rounds, three of ten clients sending noise."""
    accuracies = []

    def watch(record: RoundRecord) -> None:
        if record.accuracy is not None:
            accuracies.append(record.accuracy)

    config = RunConfig.from_config(
        {
            "task": f"csv:{path}",
            "rule": rule,
            "attack": "gaussian",
            "num-clients": 10,
            "f": 3,
            "num-server-rounds": 50,
            "run-dir": folder,
        }
    )
    with quiet_flower():
        run(config, "fast", watch)
    return accuracies[-1]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/own_csv.py TABLE.csv (a header, the label last)")
    for rule in ("average", "multi-krum", "nnm | trimmed-mean"):
        print(f"{rule}: {learn(sys.argv[1], rule, 'runs/own-csv'):.3f}")
