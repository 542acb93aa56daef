"""Any partitioner of flwr-datasets as a split; only this module imports that package."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from flwr_datasets import partitioner as package

from clients.tasks.splits import Labels, Rows, Split
from flwr_krum.calls import Call, build

LABEL, ROW = "label", "row"
"""The columns of the data set that a partitioner is given."""


@dataclass(frozen=True)
class Partitioned(Split):
    """Set a partitioner's data set to labels and row numbers, and read the row numbers back.

    Parameters
    ----------
    call : Call
        How it was written, such as ``flwr-datasets:DirichletPartitioner(alpha=0.1)``.
    kind : object
        The partitioner, which is copied first; or its class, which is called with the number of
        clients, ``partition_by="label"`` and a seed that is drawn, where it takes them and the
        call leaves them open.
    """

    call: Call
    kind: Any

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Have every partition loaded."""
        usual = {"num_partitions": n, "partition_by": LABEL, "seed": int(rng.integers(2**31))}
        is_class = isinstance(self.kind, type)
        # A partitioner takes a data set once.
        made = build(self.call, self.kind, usual) if is_class else deepcopy(self.kind)
        made.dataset = Dataset.from_dict({LABEL: labels, ROW: np.arange(len(labels))})
        if made.num_partitions != n:
            raise ValueError(
                f"{self.call.name} makes {made.num_partitions} partitions, expected {n}: one for "
                "each client that holds data"
            )
        parts = (made.load_partition(i).with_format("numpy") for i in range(n))
        return [np.asarray(part[:][ROW], np.int64) for part in parts]


def of_the_package(name: str) -> Any:
    """Return the partitioner class of flwr-datasets that has a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    known = [each for each in dir(package) if each.endswith("Partitioner")]
    if name not in known:
        raise ValueError(f"flwr-datasets has no {name!r}, expected one of {', '.join(known)}")
    return getattr(package, name)
