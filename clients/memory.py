"""What a client keeps from one round to the next: arrays by name.

In a virtual run that is a dict; a node of Flower's keeps them in its context's state, which Flower
hands it again with every message of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeAlias

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

Memory: TypeAlias = MutableMapping[str, np.ndarray]

RECORD = "flwr_krum.clients"
"""The record of a context's state that holds a client's memory."""


class ContextMemory(MutableMapping[str, np.ndarray]):
    """A memory in the state of a Flower context, which is left alone until something is noted."""

    def __init__(self, state: RecordDict) -> None:
        self._state = state

    @property
    def _record(self) -> ArrayRecord:
        found = self._state.get(RECORD)
        return found if isinstance(found, ArrayRecord) else ArrayRecord()

    def __getitem__(self, name: str) -> np.ndarray:
        return self._record[name].numpy()

    def __setitem__(self, name: str, array: np.ndarray) -> None:
        record = self._record
        record[name] = Array(np.asarray(array))
        self._state[RECORD] = record

    def __delitem__(self, name: str) -> None:
        del self._record[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._record))

    def __len__(self) -> int:
        return len(self._record)
