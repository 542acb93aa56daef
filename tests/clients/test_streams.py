import itertools

import numpy as np
import pytest

from clients.streams import Purpose, stream


def test_a_stream_is_determined_by_its_name():
    first = stream(7, Purpose.BATCH, 3, 5).integers(1000, size=20)
    again = stream(7, Purpose.BATCH, 3, 5).integers(1000, size=20)
    assert (first == again).all()


@pytest.mark.parametrize("t", [1, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_stream_draws_what_numpy_draws_from_the_name(t):
    ours = stream(7, Purpose.BATCH, 3, t).integers(2**60, size=5)
    assert (ours == np.random.default_rng([7, 3, 3, t]).integers(2**60, size=5)).all()


@pytest.mark.parametrize("purpose", [Purpose.BATCH, Purpose.OMNISCIENT])
def test_rounds_beyond_32_and_64_bits_have_streams_of_their_own(purpose):
    rounds = [5, 2**31 + 5, 2**32 + 5, 2 * 2**32 + 5, 2**63 + 5, 2**64 + 5, 2**70, 10**30]
    place = (3,) if purpose is Purpose.BATCH else ()
    draws = {tuple(stream(7, purpose, *place, t).integers(2**60, size=5)) for t in rounds}
    assert len(draws) == len(rounds)


def test_streams_of_other_seeds_purposes_clients_and_rounds_are_uncorrelated():
    names = [
        (0, Purpose.BATCH, 1, 2),
        (1, Purpose.BATCH, 1, 2),
        (0, Purpose.ATTACK, 1, 2),
        (0, Purpose.BATCH, 2, 1),
        (0, Purpose.BATCH, 1, 3),
    ]
    draws = [stream(*name).standard_normal(10_000) for name in names]
    for a, b in itertools.combinations(draws, 2):
        assert np.dot(a, b) / 10_000 == pytest.approx(0, abs=0.04)
