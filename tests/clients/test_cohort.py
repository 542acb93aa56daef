import numpy as np
import pytest

from clients import Settings, cohort
from clients.cohort import Cohort
from clients.roles import client_of, role_of


def make_cohort(settings, task):
    roles = (role_of(settings, i, {}) for i in range(settings.num_clients))
    return Cohort([client_of(settings, task, i, role) for i, role in enumerate(roles)])


def assert_the_same(found, expected, atol=1e-6):
    for (arrays, loss), (own_arrays, own_loss) in zip(found, expected, strict=True):
        assert loss == pytest.approx(own_loss, abs=1e-5)
        for array, own in zip(arrays, own_arrays, strict=True):
            assert array.dtype == own.dtype
            np.testing.assert_allclose(array, own, rtol=0, atol=atol)


@pytest.mark.parametrize("attack", ["none", "gaussian", "omniscient", "malformed"])
@pytest.mark.parametrize(
    ("task", "model"), [("spambase", "mlp"), ("mnist", "mlp"), ("mnist", "convnet")]
)
@pytest.mark.parametrize("local_steps", [1, 3])
def test_each_client_answers_as_it_would_alone(
    make_task, initial_parameters, task, model, attack, local_steps
):
    # 31 rows among 5 clients: one shard is longer than the others.
    settings = Settings(
        task=task, model=model, num_clients=5, f=2, attack=attack, local_steps=local_steps
    )
    made = make_cohort(settings, make_task(31, task))
    w = initial_parameters(settings, seed=4)
    expected = [client.propose(w, 6) for client in made.clients]
    assert_the_same(made.propose(range(5), w, 6), expected)


def test_a_forged_model_is_the_forgers_own_to_the_byte(make_task, initial_parameters):
    settings = Settings(num_clients=5, f=2, attack="gaussian")
    made = make_cohort(settings, make_task(30))
    w = initial_parameters(settings)
    for i in (3, 4):
        ((arrays, _),) = made.propose([i], w, 2)
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in made.clients[i].forge(w, 2)]


@pytest.mark.parametrize("task", ["spambase", "mnist"])
@pytest.mark.parametrize("batch_size", [1, 64, 200])
@pytest.mark.parametrize(
    "momentum", [{}, {"momentum": 0.9}, {"momentum": 0.9, "momentum_over": "steps"}]
)
def test_groups_of_clients_answer_like_all_at_once(
    make_task, initial_parameters, task, batch_size, momentum
):
    # Of 64 examples two clients make a group, the third of forgers alone; of 200 each is its own.
    common = {"task": task, "batch_size": batch_size, **momentum}
    settings = Settings(num_clients=6, f=2, attack="gaussian", **common)
    together, alone = (make_cohort(settings, make_task(30, task)) for _ in range(2))
    w = initial_parameters(settings)
    for t in (1, 2):
        expected = [client.propose(w, t) for client in alone.clients]
        assert_the_same(together.propose(range(6), w, t), expected)


def test_who_is_asked_answers_in_that_order(make_task, initial_parameters):
    settings = Settings(num_clients=6, f=2, attack="gaussian")
    made = make_cohort(settings, make_task(30))
    w = initial_parameters(settings)
    asked = [5, 0, 3]
    assert_the_same(made.propose(asked, w, 1), [made.clients[i].propose(w, 1) for i in asked])


def test_the_order_of_asking_changes_no_byte(make_task, initial_parameters):
    # Products this large are computed in tiles: who stands in which decides the last bits.
    settings = Settings(task="mnist", model="mlp", num_clients=20, f=6, attack="gaussian")
    made = make_cohort(settings, make_task(100, "mnist"))
    w = initial_parameters(settings)
    orders = [range(20), np.random.default_rng(0).permutation(20).tolist()]
    found = [dict(zip(asked, made.propose(asked, w, 1), strict=True)) for asked in orders]
    for i in range(20):
        (arrays, loss), (others, other_loss) = found[0][i], found[1][i]
        assert loss == other_loss
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in others]


def test_once_the_attack_is_over_the_forgers_train(make_task, initial_parameters):
    settings = Settings(num_clients=4, f=2, attack="gaussian", attack_rounds=3)
    made = make_cohort(settings, make_task(30))
    w = initial_parameters(settings)
    for server_round in (3, 4):
        expected = [client.propose(w, server_round) for client in made.clients]
        assert_the_same(made.propose(range(4), w, server_round), expected)


def test_the_parameters_are_left_as_they_are(make_task, initial_parameters):
    settings = Settings(num_clients=4, f=1, attack="omniscient")
    w = initial_parameters(settings)
    before = [array.copy() for array in w]
    made = make_cohort(settings, make_task(30))
    arrays = made.propose(range(4), w, 1)[0][0]
    arrays[0][:] = 7.0
    for array, old in zip(w, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_a_model_of_unknown_layers_is_trained_client_by_client(
    make_task, initial_parameters, monkeypatch
):
    monkeypatch.setattr(cohort, "KERNELS", ())
    settings = Settings(num_clients=4, f=1, attack="gaussian")
    made = make_cohort(settings, make_task(30))
    w = initial_parameters(settings)
    assert_the_same(
        made.propose(range(4), w, 1), [client.propose(w, 1) for client in made.clients], atol=0
    )


def test_parameters_of_another_model_are_an_error(make_task, initial_parameters):
    settings = Settings(num_clients=4)
    made = make_cohort(settings, make_task(30))
    with pytest.raises(ValueError, match="got arrays of shapes"):
        made.propose(range(4), initial_parameters(settings)[1:], 1)
