"""The mini-batches of many clients in a round, drawn together.

To make a generator takes ten times as long as to draw three numbers from it. Here the seeds of many
clients and rounds are hashed at once, and each stream is asked for its bits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.honest import HonestClient
from clients.streams import Purpose, seeds

AHEAD = 2048
"""Names that are hashed at once: those of the next rounds are."""


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
        self._ahead = max(1, AHEAD // len(clients))
        self._first = 0
        self._seeds = np.empty((0, len(clients), 4), np.uint64)

    def drawn(self, group: Sequence[int], server_round: int) -> NDArray[np.int64]:
        """Return what `HonestClient.draws` yields for some clients: (steps, clients, batch size).

        Parameters
        ----------
        group : sequence of int
            Places in ``clients``.
        server_round : int
        """
        if self._agrees and server_round < 2**32 - self._ahead:
            return self._together(group, server_round)
        return self._one_by_one(group, server_round)

    @cached_property
    def _agrees(self) -> bool:
        """Whether the installed NumPy draws as below: it promises a stream's bits, and no more."""
        return np.array_equal(self._together([0], 1), self._one_by_one([0], 1))

    def _together(self, group: Sequence[int], server_round: int) -> NDArray[np.int64]:
        steps, size = self._settings.local_steps, self._settings.batch_size
        words = (steps * size + 1) // 2
        bits = np.array(
            [
                np.random.PCG64(_Seed(seed)).random_raw(words)
                for seed in self._seeds_of(server_round)[group]
            ]
        )
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

    def _seeds_of(self, server_round: int) -> NDArray[np.uint64]:
        """Return the clients' seeds (n, 4) for a round."""
        if not 0 <= server_round - self._first < len(self._seeds):
            rounds = np.arange(server_round, server_round + self._ahead)
            names = np.empty((len(rounds), len(self._clients), 4), np.uint32)
            names[..., 0], names[..., 1] = self._settings.seed, Purpose.BATCH
            names[..., 2] = [client.partition_id for client in self._clients]
            names[..., 3] = rounds[:, None]
            hashed = seeds(names.reshape(-1, 4)).reshape(names.shape)
            self._first, self._seeds = server_round, hashed
        found: NDArray[np.uint64] = self._seeds[server_round - self._first]
        return found


class _Seed(np.random.SeedSequence):
    """A seed that is worked out already."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> NDArray[Any]:
        """Return the words, which are as many as PCG64 asks for."""
        return self._words
