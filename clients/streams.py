"""Random streams: one independent numpy generator for every purpose, client and round.

A stream is named, never passed on: whoever knows the seed and the name draws the same numbers, in
any process, on any engine and in any order of calls.
"""

from enum import IntEnum

import numpy as np


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
