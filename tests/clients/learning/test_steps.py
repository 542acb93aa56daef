import threading

import numpy as np
import pytest
import torch
from torch.nn import functional

import clients.learning.steps
from clients import Settings, build_model, evaluate, load_parameters, parameters_of
from clients.learning.steps import full_gradient, loss, predicted, replica


def test_a_thread_keeps_its_replica_and_shares_it_with_no_other():
    settings = Settings()
    mine, theirs = replica(settings), []
    thread = threading.Thread(target=lambda: theirs.append(replica(settings)))
    thread.start()
    thread.join()
    assert replica(Settings(seed=9)) is mine
    assert theirs[0] is not mine
    assert replica(Settings(task="mnist", model="mlp")) is not mine


def test_the_loss_is_the_mean_negative_log_likelihood(make_task):
    task, model = make_task(10), build_model("spambase", "mlp", 0)
    logits = model(task.train_x).double()
    expected = -sum(
        logits[i, label] - logits[i].logsumexp(0) for i, label in enumerate(task.train_y)
    )
    assert loss(model, task.train_x, task.train_y).item() == pytest.approx(expected.item() / 10)


@pytest.mark.parametrize("chunk", [1, 7, 25, 1000])
def test_a_chunked_pass_equals_a_whole_one(make_task, monkeypatch, chunk):
    task, model = make_task(25), build_model("spambase", "mlp", 0)
    monkeypatch.setattr(clients.learning.steps, "CHUNK", 57 * chunk)
    whole = functional.cross_entropy(model(task.train_x), task.train_y)
    whole.backward()
    for part, parameter in zip(
        full_gradient(model, task.train_x, task.train_y), model.parameters(), strict=True
    ):
        torch.testing.assert_close(part, parameter.grad)

    mean_loss, accuracy = evaluate(model, task.train_x, task.train_y)
    hits = [
        int(model(x[None]).argmax()) == y for x, y in zip(task.train_x, task.train_y, strict=True)
    ]
    assert mean_loss == pytest.approx(whole.item(), rel=1e-5)
    assert accuracy == pytest.approx(sum(hits) / 25)


@pytest.mark.parametrize("name", ["convnet", "cnn_mnist"])
def test_a_pass_over_images_is_that_of_each_image_alone(monkeypatch, name):
    model, settings = build_model("mnist", name, 0), Settings(task="mnist", model=name)
    x = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    y = torch.arange(10)
    monkeypatch.setattr(clients.learning.steps, "CHUNK", 4 * 784)
    own = replica(settings)
    load_parameters(own, list(parameters_of(model).values()))
    logits = torch.cat([model(image[None]) for image in x]).double().detach()
    expected = functional.cross_entropy(logits, y).item()
    labels = logits.argmax(dim=1)
    assert evaluate(own, x, y) == (
        pytest.approx(expected, rel=1e-5),
        (labels == y).sum().item() / 10,
    )
    assert predicted(own, x).tolist() == labels.tolist()


def test_a_model_whose_logits_are_not_finite_is_never_right():
    model = build_model("spambase", "mlp", seed=0)
    load_parameters(model, [np.full_like(a, np.nan) for a in parameters_of(model).values()])
    x, y = torch.zeros(10, 57), torch.zeros(10, dtype=torch.int64)
    _, accuracy = evaluate(model, x, y)
    assert accuracy == 0.0
