"""Tasks of a file: a table, and an object of one's own; the digits that need none."""

import gzip
import re
import sys

import numpy as np
import pytest
import torch

from clients import DataError, HonestClient, Settings, load_task, parameters_of
from clients.catalogue import MODELS, TASKS, located_task
from clients.learning.models import BUILDERS, build_model
from clients.tasks import LOADERS

TABLE = "width;length;kind\n" + "".join(f"{i};{i * i};{'ab'[i % 2]}\n" for i in range(20))

MINE = """
import numpy as np
import torch
from torch import nn


def blobs(seed, rows=60):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    x = rng.normal(size=(rows, 4)) + y[:, None]
    return (x, y), (x[:9], y[:9]), 3


PAIR = (
    torch.utils.data.TensorDataset(torch.arange(8.0).view(4, 2), torch.tensor([0, 1, 0, 1])),
    [(np.zeros(2), 1)],
)
WRONG = ((np.zeros((3, 2)), [0, 1, 5]), (np.zeros((3, 2)), [0, 1, 1]), 3)
NAN = ((np.full((2, 2), np.nan), [0, 1]), (np.zeros((2, 2)), [0, 1]), 2)
ODD = ((np.zeros((2, 2)), [0, 1, 1]), (np.zeros((2, 2)), [0, 1]), 2)


class Net(nn.Sequential):
    def __init__(self, shape, classes, width=5):
        super().__init__(
            nn.Linear(shape[0], width), nn.BatchNorm1d(width), nn.Dropout(0.5),
            nn.Linear(width, classes),
        )


def narrow():
    return nn.Linear(4, 2)


built = nn.Linear(4, 3)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    yield "mine.py:"
    sys.modules.pop(str(tmp_path / "mine.py"), None)


def test_every_name_in_the_catalogue_is_loaded_or_built():
    assert list(TASKS) == list(LOADERS)
    assert list(MODELS) == list(BUILDERS)
    assert all(facts.model in MODELS for facts in TASKS.values())


def test_the_digits_are_scikit_learns_own():
    from sklearn.datasets import load_digits

    task, theirs = load_task(Settings(task="digits")), load_digits()
    assert (task.train_x.shape, task.test_x.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    found = torch.cat([task.train_x, task.test_x]).view(-1, 64).numpy()
    expected = (theirs.data / 16 - 0.3053) / 0.3760
    order = np.random.default_rng([0, 1]).permutation(1797)
    np.testing.assert_allclose(found, expected[order], atol=1e-5)
    assert torch.cat([task.train_y, task.test_y]).tolist() == theirs.target[order].tolist()
    assert abs(expected.mean()) < 1e-3
    assert expected.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_table_is_read_with_its_header_and_standardised_on_training_rows(
    tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    packed = gzip.compress(TABLE.encode()) if name.endswith("gz") else TABLE.encode()
    (tmp_path / name).write_bytes(packed)
    task = load_task(Settings(task=f"csv:{name}"))
    order = np.random.default_rng([0, 1]).permutation(20)
    table = np.array([[i, i * i] for i in range(20)], float)
    mean, std = table[order[:16]].mean(axis=0), table[order[:16]].std(axis=0)
    np.testing.assert_allclose(task.train_x, (table[order[:16]] - mean) / std, rtol=1e-5)
    np.testing.assert_allclose(task.test_x, (table[order[16:]] - mean) / std, rtol=1e-5)
    assert task.train_y.tolist() == [int(i % 2) for i in order[:16]]
    by_name = load_task(Settings(task=f"csv(path='{name}', label=kind)"))
    assert by_name.train_y.tolist() == task.train_y.tolist()
    assert located_task(f"csv:{name}") == f"csv(path='{tmp_path / name}')"
    model = build_model(f"csv:{name}", "logistic", 0)
    assert model(task.test_x).shape == (4, 2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no data; expected rows of numbers and a label"),
        ("1,2,0\n1,x,1\n3,4,0\n5,6,1\n", "'x' in row 2 is no number"),
        ("1,2,0\n1,1\n", "2 cells in row 2 and 3 in row 1"),
        ("1,nan,0\n1,2,1\n3,4,0\n5,6,1\n", "NaN or Inf in row 1"),
        ("1,2.5\n1,3.5\n3,4.5\n5,6.5\n", "4 different labels in 4 rows; expected at least 2"),
        ("1,0\n2,0\n", "1 different labels in 2 rows"),
        (None, "cannot be read ("),
    ],
)
def test_a_wrong_table_is_named_with_what_is_wrong(tmp_path, content, problem):
    file = tmp_path / "t.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=re.escape(f"{file}: {problem}")):
        load_task(Settings(task=f"csv:{file}"))
    file.write_text("1,0\n2,1\n3,0\n4,1\n")
    with pytest.raises(DataError, match="no column 'kind'; expected first, last, 0 to 1, or a"):
        load_task(Settings(task=f"csv(path='{file}', label=kind)"))


def test_a_task_of_ones_own_is_arrays_or_data_sets(own):
    task = load_task(Settings(task=f"{own}blobs(rows=30)", seed=4))
    x = np.random.default_rng(4).normal(size=(30, 4)) + (np.arange(30) % 3)[:, None]
    np.testing.assert_allclose(task.train_x, x, rtol=1e-6)
    assert (task.train_x.dtype, task.train_y.dtype) == (torch.float32, torch.int64)
    assert (task.classes, len(task.test_y)) == (3, 9)
    pair = load_task(Settings(task=f"{own}PAIR"))
    assert pair.train_x.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert (pair.train_y.tolist(), pair.test_y.tolist(), pair.classes) == ([0, 1, 0, 1], [1], 2)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("OWN:WRONG", "a label is 5, expected 0 to 2"),
        ("OWN:NAN", "train holds NaN or Inf, expected finite numbers"),
        ("OWN:ODD", "train is of shapes (2, 2) and (3,), expected (N, ...) and (N,)"),
        ("OWN:Blobs", "has no 'Blobs'"),
        ("OWN:blobs(row=3)", "it takes seed, rows=60"),
        ("digits(side=3)", "it takes no arguments"),
    ],
)
def test_a_wrong_task_of_ones_own_is_said_in_a_sentence(own, task, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_task(Settings(task=task.replace("OWN:", own)))
    assert str(error.value).startswith("task is ")


def test_a_model_of_ones_own_with_dropout_repeats_and_keeps_what_it_counts(own):
    settings = Settings(
        task=f"{own}blobs", model=f"{own}Net(width=6)", num_clients=3, local_steps=2
    )
    task = load_task(settings)
    model = parameters_of(build_model(settings.task, settings.model, 0))
    assert model["0.weight"].shape == (6, 4)
    given = list(model.values())
    torch.manual_seed(1)
    first, loss = HonestClient(settings, task, 0).propose(given, 1)
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    again, same = HonestClient(settings, task, 0).propose(given, 1)
    assert torch.rand(1) == expected
    assert loss == same
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    counted = dict(zip(model, first, strict=True))["1.num_batches_tracked"]
    assert counted == 2
    client = HonestClient(settings, task, 0)
    assert client.evaluate(given, {}) == client.evaluate(given, {})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("OWN:narrow", "it gives (2, 2) for 2 examples of shape (4,), expected logits (2, 3)"),
        ("OWN:built", "is Linear, expected what builds a model: every seed"),
        ("OWN:Net(width=0.5)", "Net: "),
        ("mlp(width=3)", "it takes no arguments"),
    ],
)
def test_a_wrong_model_of_ones_own_is_said_in_a_sentence(own, model, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model(f"{own}blobs", model.replace("OWN:", own), 0)


@pytest.mark.parametrize(
    ("task", "model", "d"),
    [
        ("mnist", "cnn_mnist", 431_080),
        ("mnist", "logistic", 7850),
        ("cifar-10", "resnet-18", 11_173_962),
    ],
)
def test_a_model_has_the_size_that_its_source_states(task, model, d):
    assert sum(p.numel() for p in build_model(task, model, 0).parameters()) == d
