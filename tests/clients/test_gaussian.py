import itertools
import math

import numpy as np
import pytest

from clients import HonestClient, Settings
from clients.roles import client_of


def attacker(settings, task, partition_id):
    return client_of(settings, task, partition_id, "gaussian")


@pytest.fixture
def vector(make_task, initial_parameters):
    """V = (w - model) / rate of one client in one round, d = 13738."""
    task = make_task(8, "mnist")

    def draw(partition_id=0, server_round=1, **changes):
        settings = Settings(task="mnist", num_clients=4, **changes)
        # Zero parameters, so that float32 keeps the vector to 7 digits.
        w = [np.zeros_like(array) for array in initial_parameters(settings)]
        arrays, _ = attacker(settings, task, partition_id).propose(w, server_round)
        return -np.concatenate([array.ravel() for array in arrays]) / settings.learning_rate

    return draw


def test_the_vector_is_normal_with_the_variance_asked_for(vector):
    v = vector(gaussian_variance=200.0) / math.sqrt(200)
    d = len(v)
    assert v.mean() == pytest.approx(0, abs=4 / math.sqrt(d))
    assert v.var() == pytest.approx(1, abs=4 * math.sqrt(2 / d))
    assert (v**3).mean() == pytest.approx(0, abs=4 * math.sqrt(15 / d))
    assert (v**4).mean() == pytest.approx(3, abs=4 * math.sqrt(96 / d))


def test_the_variance_scales_the_same_draw(vector):
    np.testing.assert_allclose(
        vector(gaussian_variance=800.0), 2 * vector(gaussian_variance=200.0), rtol=1e-5
    )
    assert (vector(gaussian_variance=0.0) == 0).all()


def test_clients_rounds_and_seeds_draw_independently(vector):
    draws = [vector(0, 1), vector(1, 1), vector(0, 2), vector(1, 2), vector(0, 1, seed=1)]
    for a, b in itertools.combinations(draws, 2):
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(0, abs=4 / math.sqrt(len(a)))


def test_a_draw_can_be_repeated(vector):
    assert (vector(2, 7) == vector(2, 7)).all()


def test_the_vector_reaches_flower_as_a_step_of_the_rounds_rate(make_task, initial_parameters):
    task, places = make_task(8), {"num_clients": 2, "schedule": "power"}
    w = [array.astype(np.float64) for array in initial_parameters(Settings())]
    slow = attacker(Settings(learning_rate=0.1, **places), task, 0).propose(w, 16)[0]
    fast = attacker(Settings(learning_rate=0.8, **places), task, 0).propose(w, 16)[0]
    for a, b, old in zip(slow, fast, w, strict=True):
        np.testing.assert_allclose(b - old, 8 * (a - old), rtol=1e-9)


def test_integer_buffers_stay_and_floats_keep_dtype_and_shape(make_task):
    client = attacker(Settings(num_clients=2), make_task(8), 0)
    client.first_loss = lambda *_: 0.0  # these are not the model's own arrays
    w = [np.ones((2, 3), np.float16), np.array(5), np.array(1.0), np.ones(4, bool)]
    arrays, _ = client.propose(w, 1)
    assert [(type(a), a.dtype, a.shape) for a in arrays] == [
        (np.ndarray, a.dtype, a.shape) for a in w
    ]
    assert arrays[1] == 5
    assert arrays[1] is not w[1]
    assert (arrays[0] != 1).all()
    assert arrays[3].all()
    assert (w[0] == 1).all()


def test_an_enormous_variance_overflows_without_a_crash(make_task, initial_parameters, recwarn):
    settings = Settings(num_clients=2, gaussian_variance=1e300)
    arrays, *_ = attacker(settings, make_task(8), 0).fit(
        initial_parameters(settings), {"server-round": 1}
    )
    assert np.isinf(arrays[0]).all()
    assert not recwarn.list


def test_its_metrics_are_those_of_an_honest_client(make_task, initial_parameters):
    settings, task = Settings(num_clients=2, local_steps=3), make_task(8)
    w, config = initial_parameters(settings), {"server-round": 3}
    honest = HonestClient(settings, task, 1).fit(w, config)
    assert attacker(settings, task, 1).fit(w, config)[1:] == honest[1:]
