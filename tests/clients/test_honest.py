import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn import functional

from clients import (
    HonestClient,
    Settings,
    build_client,
    build_model,
    evaluate,
    learning_rate,
    load_parameters,
    load_task,
)


def numpy_mlp_gradient(w, x, label):
    """Gradient of -log softmax(MLP(x))[label] for one example, by hand, and the loss."""
    w1, b1, w2, b2, w3, b3 = (array.astype(np.float64) for array in w)
    a1 = w1 @ x + b1
    h1 = np.maximum(a1, 0)
    a2 = w2 @ h1 + b2
    h2 = np.maximum(a2, 0)
    z = w3 @ h2 + b3
    p = np.exp(z - z.max())
    p /= p.sum()
    dz = p - np.eye(len(z))[label]
    da2 = (w3.T @ dz) * (a2 > 0)
    da1 = (w2.T @ da2) * (a1 > 0)
    gradient = [np.outer(da1, x), da1, np.outer(da2, h1), da2, np.outer(dz, h2), dz]
    return gradient, -np.log(p[label])


@pytest.mark.parametrize("schedule", ["constant", "power"])
def test_a_step_equals_a_hand_written_gradient(make_task, initial_parameters, schedule):
    # With as many clients as rows, a shard is one row and every batch holds nothing else.
    task = make_task(6)
    settings = Settings(num_clients=6, learning_rate=0.3, schedule=schedule)
    w = initial_parameters(settings)
    for partition_id in range(6):
        client = HonestClient(settings, task, partition_id)
        row = int(client.shard[0])
        gradient, expected_loss = numpy_mlp_gradient(
            w, task.train_x[row].double().numpy(), int(task.train_y[row])
        )
        arrays, num_examples, metrics = client.fit(w, {"server-round": 4})
        assert num_examples == 1
        assert metrics == {"loss": pytest.approx(expected_loss, rel=1e-5)}
        for new, old, part in zip(arrays, w, gradient, strict=True):
            np.testing.assert_allclose(new, old - learning_rate(settings, 4) * part, atol=1e-6)


@pytest.mark.parametrize("model_name", ["convnet", "mlp"])
def test_local_steps_equal_a_loop_of_torch_sgd(make_task, initial_parameters, model_name):
    task = make_task(3, "mnist")
    settings = Settings(task="mnist", model=model_name, num_clients=3, local_steps=4)
    client = HonestClient(settings, task, 2)
    w = initial_parameters(settings)

    reference = build_model("mnist", model_name, seed=1)
    load_parameters(reference, w)
    optimizer = torch.optim.SGD(reference.parameters(), lr=settings.learning_rate)
    for _ in range(4):
        optimizer.zero_grad()
        rows = client.shard[[0] * settings.batch_size]
        functional.cross_entropy(reference(task.train_x[rows]), task.train_y[rows]).backward()
        optimizer.step()

    arrays, _ = client.propose(w, 1)
    for new, expected in zip(arrays, reference.parameters(), strict=True):
        np.testing.assert_allclose(new, expected.detach().numpy(), atol=1e-6)


def test_mini_batches_come_from_the_own_shard_with_replacement(make_task):
    task = make_task(40)
    client = HonestClient(Settings(num_clients=4, batch_size=8), task, 1)
    own = {row.numpy().tobytes() for row in task.train_x[client.shard]}
    seen, repeated = set(), False
    for server_round in range(1, 30):
        (x, _), *_ = client.batches(server_round)
        batch = [row.numpy().tobytes() for row in x]
        seen.update(batch)
        repeated |= len(set(batch)) < len(batch)
    assert seen == own
    assert repeated


def test_the_mean_update_is_the_gradient_over_the_shard(make_task, initial_parameters):
    task, settings = make_task(40), Settings(num_clients=4, learning_rate=1.0)
    client, w = HonestClient(settings, task, 3), initial_parameters(settings)
    rounds = 2000
    draws = np.array([(w[-1] - client.propose(w, t)[0][-1]) for t in range(1, rounds + 1)])

    model = build_model("spambase", "mlp", 0)
    load_parameters(model, w)
    x, y = task.train_x[client.shard], task.train_y[client.shard]
    functional.cross_entropy(model(x), y).backward()
    standard_error = draws.std(axis=0) / np.sqrt(rounds)
    assert (np.abs(draws.mean(axis=0) - model.output.bias.grad.numpy()) < 4 * standard_error).all()


def test_clients_of_a_run_hold_every_row_once(make_task):
    task, settings = make_task(47), Settings(num_clients=5)
    shards = [HonestClient(settings, task, i).shard.tolist() for i in range(5)]
    assert sorted(row for shard in shards for row in shard) == list(range(47))


def test_an_answer_depends_on_client_round_and_seed_only(make_task, initial_parameters):
    task, settings = make_task(40), Settings(num_clients=4)
    w = initial_parameters(settings)

    def answer(seed, partition_id, server_round):
        client = HonestClient(Settings(num_clients=4, seed=seed), task, partition_id)
        return b"".join(array.tobytes() for array in client.propose(w, server_round)[0])

    places = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2)]
    first = [answer(*place) for place in places]
    assert len(set(first)) == len(places)
    assert [answer(*place) for place in reversed(places)] == first[::-1]


def test_another_process_gives_the_same_bytes(initial_parameters):
    settings = Settings(local_steps=3)
    arrays, _ = build_client(settings, 4, "honest").propose(initial_parameters(settings), 9)
    code = """
import sys
from clients import Settings, build_client, build_model, parameters_of
w = list(parameters_of(build_model("spambase", "mlp", 0)).values())
arrays, _ = build_client(Settings(local_steps=3), 4, "honest").propose(w, 9)
sys.stdout.buffer.write(b"".join(array.tobytes() for array in arrays))
"""
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert there.stdout == b"".join(array.tobytes() for array in arrays)


def test_threads_that_share_clients_give_the_same_bytes(make_task, initial_parameters):
    task, settings = make_task(200, "mnist"), Settings(task="mnist", num_clients=4, local_steps=2)
    client_of = [HonestClient(settings, task, i) for i in range(4)]
    models = [initial_parameters(settings, seed) for seed in range(3)]
    calls = [(client_of[i % 4], models[i % 3], 1 + i % 5) for i in range(60)]

    def answer(call):
        client, w, server_round = call
        arrays, _, metrics = client.fit(w, {"server-round": server_round})
        digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        return digest, metrics, client.evaluate(w, {})

    alone = [answer(call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, calls))
    assert together == alone


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_parameters_are_left_alone_and_keep_dtypes_and_shapes(
    make_task, initial_parameters, dtype
):
    task, settings = make_task(8), Settings(num_clients=2)
    w = [array.astype(dtype) for array in initial_parameters(settings)]
    before = [array.copy() for array in w]
    client = HonestClient(settings, task, 0)
    arrays, *_ = client.fit(w, {"server-round": 1})
    client.evaluate(w, {})
    assert all((array == old).all() for array, old in zip(w, before, strict=True))
    assert [(a.dtype, a.shape) for a in arrays] == [(a.dtype, a.shape) for a in w]
    assert not any(np.shares_memory(new, old) for new, old in zip(arrays, w, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_a_destroyed_model_does_not_crash_a_client(make_task, initial_parameters, value):
    task, settings = make_task(8), Settings(num_clients=2)
    w = [np.full_like(array, value) for array in initial_parameters(settings)]
    client = HonestClient(settings, task, 0)
    arrays, _, metrics = client.fit(w, {"server-round": 1})
    loss, *_ = client.evaluate(w, {})
    assert [array.shape for array in arrays] == [array.shape for array in w]
    assert isinstance(metrics["loss"], float)
    assert isinstance(loss, float)


def test_evaluation_is_on_the_own_shard(make_task, initial_parameters):
    task, settings = make_task(30), Settings(num_clients=3)
    client, w = HonestClient(settings, task, 1), initial_parameters(settings)
    loss, num_examples, metrics = client.evaluate(w, {})
    x, y = task.train_x[client.shard].double().numpy(), task.train_y[client.shard]
    losses = [numpy_mlp_gradient(w, row, int(label))[1] for row, label in zip(x, y, strict=True)]
    assert num_examples == 10
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    # With two classes, the right one wins where its probability is above one half.
    assert metrics == {"accuracy": pytest.approx(np.mean(np.array(losses) < np.log(2)))}


@pytest.mark.parametrize(("config", "found"), [({}, "None"), ({"server-round": 0}, "0")])
def test_a_config_without_a_legal_round_is_refused_with_the_way_out(
    make_task, initial_parameters, config, found
):
    settings = Settings(num_clients=2)
    client = HonestClient(settings, make_task(8), 0)
    with pytest.raises(ValueError, match=f"'server-round' is {found}.*on_fit_config_fn=lambda"):
        client.fit(initial_parameters(settings), config)


@pytest.mark.parametrize("partition_id", [-1, 4])
def test_a_partition_out_of_range_is_refused(make_task, partition_id):
    with pytest.raises(ValueError, match=f"partition_id is {partition_id}, expected 0 to 3"):
        HonestClient(Settings(num_clients=4), make_task(8), partition_id)


def test_training_learns_spambase(initial_parameters):
    settings = Settings(num_clients=1, batch_size=20, local_steps=300, learning_rate=0.2)
    arrays, _ = build_client(settings, 0, "honest").propose(initial_parameters(settings), 1)
    model, task = build_model("spambase", "mlp", 0), load_task(settings)
    load_parameters(model, arrays)
    _, accuracy = evaluate(model, task.test_x, task.test_y)
    assert accuracy > 0.85
