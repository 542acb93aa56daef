"""Random streams: one independent numpy generator for every purpose, client and round.

A stream is named, never passed on: whoever knows the seed and the name draws the same numbers, in
any process, on any engine and in any order of calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a stream is drawn for; the values are part of the seed, so they never change."""

    SPLIT = 1
    PARTITION = 2
    BATCH = 3
    ATTACK = 4
    OMNISCIENT = 5
    ROOT = 6
    MODEL = 9
    HELD_OUT = 10


def stream(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """Return the generator of a purpose at a place.

    Parameters
    ----------
    seed : int
        The run's seed, 0 <= seed < 2^32.
    purpose : Purpose
        Streams of different purposes are independent.
    *place : int
        Where in the run, such as (partition_id, server_round); always of one length per purpose.
        Only the last may be 2^32 or more.
    """
    name = [seed, int(purpose), *place]
    # One word each, as numpy would make of whole numbers, in two thirds of the time.
    return np.random.default_rng(np.array(name, np.uint32) if name[-1] < 2**32 else name)


AHEAD = 2048
"""Names that are hashed at once, those of rounds to come among them."""


class Streams:
    """The streams of one purpose at many places, round after round.

    To make a generator takes ten times as long as to draw three numbers from it, and the most of
    that goes into the hash of its name: here the names of many rounds are hashed together.

    Parameters
    ----------
    seed, purpose
        As for `stream`.
    places : sequence of int
        What comes before the round in a name.
    """

    def __init__(self, seed: int, purpose: Purpose, places: Sequence[int]) -> None:
        self._seed, self._purpose, self._places = seed, purpose, tuple(places)
        self._ahead = max(1, AHEAD // len(self._places))
        self._first = 0
        self._seeds = np.empty((0, len(self._places), 4), np.uint64)

    def bits(self, which: Sequence[int], server_round: int) -> list[np.random.BitGenerator]:
        """Return what the streams of some places draw their bits from.

        Parameters
        ----------
        which : sequence of int
            Indices of places.
        server_round : int
        """
        if server_round >= 2**32 - self._ahead:
            names = [(self._places[i], server_round) for i in which]
            return [stream(self._seed, self._purpose, *name).bit_generator for name in names]
        if not 0 <= server_round - self._first < len(self._seeds):
            self._look_ahead(server_round)
        found = self._seeds[server_round - self._first, which]
        return [np.random.PCG64(_Hashed(words)) for words in found]

    def _look_ahead(self, server_round: int) -> None:
        names = np.empty((self._ahead, len(self._places), 4), np.uint32)
        names[..., 0], names[..., 1], names[..., 2] = self._seed, self._purpose, self._places
        names[..., 3] = np.arange(server_round, server_round + self._ahead)[:, None]
        self._first, self._seeds = server_round, seeds(names.reshape(-1, 4)).reshape(names.shape)


class _Hashed(np.random.SeedSequence):
    """A name that is hashed already."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> NDArray[Any]:
        """Return the words, which are as many as PCG64 asks for."""
        return self._words


def seeds(names: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return the seed (N, 4) of PCG64 that NumPy makes of each name (N, 4), of all at once.

    Row by row ``SeedSequence(name).generate_state(4, np.uint64)``, whose algorithm NumPy promises
    to keep (NEP 19). Source: M. E. O'Neill, "Developing a seed_seq Alternative", 2015.
    """
    constant = _INIT_A

    def hashed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        nonlocal constant
        words = words ^ np.uint32(constant)
        constant = constant * _MULT_A & _WORD
        return _folded(words * np.uint32(constant))

    pool = [hashed(words) for words in names.T]
    for source in range(4):
        for target in range(4):
            if source != target:
                mixed = _MIX_L * pool[target] - _MIX_R * hashed(pool[source])
                pool[target] = _folded(mixed)
    state = np.empty((len(names), 8), np.dtype("<u4"))
    constant = _INIT_B
    for i in range(8):
        words = pool[i % 4] ^ np.uint32(constant)
        constant = constant * _MULT_B & _WORD
        state[:, i] = _folded(words * np.uint32(constant))
    return state.view("<u8").astype(np.uint64, copy=False)


def _folded(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return words ^ (words >> np.uint32(16))


_WORD = 2**32 - 1
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
