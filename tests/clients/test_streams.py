import itertools

import numpy as np
import pytest

from clients.streams import Purpose, stream


def test_a_stream_is_determined_by_its_name():
    first = stream(7, Purpose.BATCH, 3, 5).integers(1000, size=20)
    again = stream(7, Purpose.BATCH, 3, 5).integers(1000, size=20)
    assert (first == again).all()


def test_streams_of_other_seeds_purposes_clients_and_rounds_are_uncorrelated():
    names = [
        (0, Purpose.BATCH, 1, 2),
        (1, Purpose.BATCH, 1, 2),
        (0, Purpose.GAUSSIAN, 1, 2),
        (0, Purpose.BATCH, 2, 1),
        (0, Purpose.BATCH, 1, 3),
    ]
    draws = [stream(*name).standard_normal(10_000) for name in names]
    for a, b in itertools.combinations(draws, 2):
        assert np.dot(a, b) / 10_000 == pytest.approx(0, abs=0.04)
