from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torch.nn import functional

import clients.collusion
from clients import HonestClient, Settings, build_model, load_parameters
from clients.roles import client_of


def attacker(settings, task, partition_id):
    return client_of(settings, task, partition_id, "omniscient")


def true_gradient(settings, task, w):
    model = build_model(settings.task, settings.model, seed=1)
    load_parameters(model, w)
    functional.cross_entropy(model(task.train_x), task.train_y).backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]


@pytest.fixture
def passes(monkeypatch):
    """Counts the passes over the training data."""
    counted = []
    original = clients.collusion.full_gradient
    monkeypatch.setattr(
        clients.collusion, "full_gradient", lambda *args: counted.append(1) or original(*args)
    )
    return counted


@pytest.mark.parametrize("name", ["spambase", "mnist"])
def test_it_sends_minus_the_factor_times_the_gradient_over_all_data(
    make_task, initial_parameters, name
):
    task = make_task(50, name)
    settings = Settings(task=name, num_clients=5, omniscient_factor=100.0, schedule="power")
    w = [array.astype(np.float64) for array in initial_parameters(settings)]
    rate = settings.learning_rate / 2**0.75
    arrays, _ = attacker(settings, task, 4).propose(w, 2)
    for new, old, part in zip(arrays, w, true_gradient(settings, task, w), strict=True):
        np.testing.assert_allclose((old - new) / rate, -100.0 * part, rtol=1e-3, atol=1e-3)


def test_it_climbs_where_an_honest_client_descends(make_task, initial_parameters):
    task, settings = make_task(50), Settings(num_clients=5, omniscient_factor=1.0)
    w = initial_parameters(settings)
    arrays, _ = attacker(settings, task, 4).propose(w, 1)

    def loss(arrays):
        model = build_model("spambase", "mlp", 0)
        load_parameters(model, arrays)
        return functional.cross_entropy(model(task.train_x), task.train_y).item()

    assert loss(arrays) > loss(w)


def test_all_of_them_send_the_same_vector(make_task, initial_parameters):
    task, settings = make_task(50), Settings(num_clients=5, omniscient_examples=8)
    w = initial_parameters(settings)
    sent = [attacker(settings, task, i).propose(w, 3)[0] for i in range(5)]
    for other in sent[1:]:
        assert all((a == b).all() for a, b in zip(sent[0], other, strict=True))


def test_an_estimate_takes_fresh_examples_each_round_and_is_unbiased(make_task, initial_parameters):
    task = make_task(50)
    settings = Settings(
        num_clients=5, omniscient_examples=8, omniscient_factor=1.0, learning_rate=1.0
    )
    w = initial_parameters(settings)
    client, rounds = attacker(settings, task, 0), 1500
    draws = np.array([client.propose(w, t)[0][-1] - w[-1] for t in range(1, rounds + 1)])
    assert len(np.unique(draws[:, 0])) > rounds // 2
    error = np.abs(draws.mean(axis=0) - true_gradient(settings, task, w)[-1])
    assert (error < 4 * draws.std(axis=0) / np.sqrt(rounds)).all()


def test_the_estimate_can_be_repeated_after_the_cache_has_forgotten_it(
    make_task, initial_parameters
):
    task, settings = make_task(50), Settings(num_clients=5, omniscient_examples=8)
    client, w = attacker(settings, task, 0), initial_parameters(settings)
    first = client.propose(w, 1)[0]
    for server_round in range(2, 12):
        client.propose(w, server_round)
    assert all((a == b).all() for a, b in zip(first, client.propose(w, 1)[0], strict=True))


def test_clients_of_a_round_share_one_pass_over_the_data(make_task, initial_parameters, passes):
    task, settings = make_task(50), Settings(num_clients=8)
    w = initial_parameters(settings)
    colluders = [attacker(settings, task, i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda client: client.propose(w, 1), colluders))
    assert len(passes) == 1


def test_another_model_round_task_or_setting_is_another_pass(make_task, initial_parameters, passes):
    task, settings = make_task(50), Settings(num_clients=5)
    w, moved = initial_parameters(settings), initial_parameters(settings, seed=1)
    mutable = [array.copy() for array in w]
    attacker(settings, task, 0).propose(mutable, 1)
    mutable[0][0, 0] += 1
    attacker(settings, task, 0).propose(mutable, 1)
    attacker(settings, task, 0).propose(moved, 1)
    attacker(settings, task, 0).propose(w, 2)
    attacker(settings, make_task(50, seed=1), 0).propose(w, 1)
    attacker(Settings(num_clients=5, seed=1), task, 0).propose(w, 1)
    assert len(passes) == 6


def test_the_parameters_are_left_alone_and_keep_dtypes(make_task, initial_parameters):
    settings = Settings(num_clients=2)
    w = [array.astype(np.float16) for array in initial_parameters(settings)]
    before = [array.copy() for array in w]
    arrays, _ = attacker(settings, make_task(8), 0).propose(w, 1)
    assert all((array == old).all() for array, old in zip(w, before, strict=True))
    assert {array.dtype for array in arrays} == {np.dtype(np.float16)}


@pytest.mark.parametrize(("factor", "value"), [(1e300, 0.1), (1e4, np.nan), (1e4, 1e38)])
def test_overflow_is_sent_not_raised(make_task, initial_parameters, factor, value, recwarn):
    settings = Settings(num_clients=2, omniscient_factor=factor)
    w = [np.full_like(array, value) for array in initial_parameters(settings)]
    arrays, *_ = attacker(settings, make_task(8), 0).fit(w, {"server-round": 1})
    assert not all(np.isfinite(array).all() for array in arrays)
    assert not recwarn.list


def test_its_metrics_are_those_of_an_honest_client(make_task, initial_parameters):
    settings, task = Settings(num_clients=2, local_steps=3), make_task(8)
    w, config = initial_parameters(settings), {"server-round": 3}
    honest = HonestClient(settings, task, 1).fit(w, config)
    assert attacker(settings, task, 1).fit(w, config)[1:] == honest[1:]
