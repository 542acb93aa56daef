"""The mini-batches of many clients in a round, drawn together.

A generator is slow to draw a few numbers: here each stream is asked for its bits alone, and all are
made examples of in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clients.honest import HonestClient
from clients.streams import Purpose, Streams


class Batches:
    """What clients draw in each round, for local steps on batches of one size.

    Parameters
    ----------
    clients : sequence of HonestClient
        Of the same settings, whose ``local_epochs`` is 0.
    """

    def __init__(self, clients: Sequence[HonestClient]) -> None:
        self._clients = tuple(clients)
        self._settings = clients[0].settings
        self._sizes = np.array([client.num_examples for client in clients], np.uint64)
        places = [client.partition_id for client in clients]
        self._streams = Streams(self._settings.seed, Purpose.BATCH, places)

    def drawn(self, group: Sequence[int], server_round: int) -> NDArray[np.int64]:
        """Return what `HonestClient.draws` yields for some clients: (steps, clients, batch size).

        Parameters
        ----------
        group : sequence of int
            Places in ``clients``.
        server_round : int
        """
        if self._agrees:
            return self._together(group, server_round)
        return self._one_by_one(group, server_round)

    @cached_property
    def _agrees(self) -> bool:
        """Whether the installed NumPy draws as below: it promises a stream's bits, and no more."""
        return np.array_equal(self._together([0], 1), self._one_by_one([0], 1))

    def _together(self, group: Sequence[int], server_round: int) -> NDArray[np.int64]:
        steps, size = self._settings.local_steps, self._settings.batch_size
        words = (steps * size + 1) // 2
        streams = self._streams.bits(group, server_round)
        bits = np.array([each.random_raw(words) for each in streams])
        # As a Generator draws below a number of examples: from 32 bits, the lower ones first.
        # Source: D. Lemire, "Fast Random Integer Generation in an Interval", 2019.
        halves = bits.astype("<u8", copy=False).view("<u4")[:, : steps * size]
        sizes = self._sizes[group, None]
        products = halves.astype(np.uint64) * sizes
        drawn = (products >> np.uint64(32)).astype(np.int64).reshape(len(group), steps, size)
        # Once in millions of draws it may take another word.
        for k in np.flatnonzero((products.astype(np.uint32) < sizes).any(axis=1)).tolist():
            drawn[k] = list(self._clients[group[k]].draws(server_round))
        return drawn.swapaxes(0, 1)

    def _one_by_one(self, group: Sequence[int], server_round: int) -> NDArray[np.int64]:
        drawn = [list(self._clients[i].draws(server_round)) for i in group]
        return np.array(drawn).swapaxes(0, 1)
