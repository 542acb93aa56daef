"""Who holds what in a run: the split of the settings, written as text or of one's own."""

import re
import sys

import numpy as np
import pytest
import torch

from clients import HonestClient, Settings, shards_of
from clients.tasks import shard_of
from clients.tasks.written import parse_split

MY_SPLITS = '''
import numpy as np

from clients.tasks.splits import Extreme, Split


def halves(labels, n, rng, swap=False):
    """The first client has half of the rows."""
    order = rng.permutation(len(labels))
    return [order[:50], *np.array_split(order[50:], n - 1)][:: -1 if swap else 1]


class Backwards(Split):
    def __call__(self, labels, n, rng):
        return Extreme()(labels, n, rng)[::-1]


def bare(labels, n, rng):
    return [[] if i == 1 else [i] for i in range(n)]


def twice(labels, n, rng):
    return [[0, 7]] * n


def few(labels, n, rng):
    return [[0]]


def beyond(labels, n, rng):
    return [[100 + i] for i in range(n)]


def real(labels, n, rng):
    return [[0.5]] * n


def broken(labels, n, rng):
    return {}[labels[0]]


THING = 3
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MY_SPLITS)
    yield "mine.py:"
    sys.modules.pop(str(tmp_path / "mine.py"), None)


@pytest.fixture
def task(make_task):
    return make_task(100)


def settings(**options):
    return Settings(**{"num_clients": 5, "seed": 3, **options})


def test_by_default_the_shards_have_the_bytes_that_they_always_had(task):
    expected = np.array_split(np.random.default_rng([3, 2]).permutation(100), 5)
    found = shards_of(settings(), task)
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in expected]


def test_the_split_is_the_settings_and_is_drawn_once(task):
    first, again = (shards_of(settings(split="extreme"), task) for _ in range(2))
    assert all(a is b for a, b in zip(first, again, strict=True))
    labels = task.train_y.numpy()
    assert labels[np.concatenate(first)].tolist() == sorted(labels.tolist())
    clients = [HonestClient(settings(split="extreme"), task, i) for i in range(5)]
    assert [c.shard.tolist() for c in clients] == [rows.tolist() for rows in first]


def test_where_the_honest_alone_hold_data_f_changes_their_number_and_attackers_borrow(task):
    of = settings(num_clients=7, f=3, holders="honest")
    four = shards_of(of, task)
    assert [r.tolist() for r in four] == [
        r.tolist() for r in shards_of(settings(num_clients=4), task)
    ]
    assert [shard_of(of, task, i).tolist() for i in (4, 5, 6)] == [r.tolist() for r in four[:3]]
    assert len(shards_of(settings(num_clients=7, f=3), task)) == 7
    assert HonestClient(of, task, 6).num_examples == len(four[2])


def test_shards_of_unequal_size_are_drawn_from_by_the_fast_engine_too(task, initial_parameters):
    from clients.cohort import Cohort

    of = settings(split="quantity-skew(alpha=0.2)")
    clients = [HonestClient(of, task, i) for i in range(5)]
    assert len({client.num_examples for client in clients}) > 2
    model = initial_parameters(of)
    together = Cohort(clients).propose(range(5), model, 1)
    for client, (arrays, loss) in zip(clients, together, strict=True):
        alone, its_loss = client.propose(model, 1)
        assert loss == pytest.approx(its_loss, rel=1e-5)
        for found, expected in zip(arrays, alone, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_client_that_would_hold_nothing_is_named_with_the_way_out(make_task):
    task = make_task(60)
    of = settings(num_clients=20, split="dirichlet(alpha=0.05, least=0)")
    with pytest.raises(ValueError, match=r"client \d+ of 20 holds no example; a least size \(leas"):
        shards_of(of, task)
    with pytest.raises(ValueError, match="split is 'iid': n is 61, expected 1 to 60: the examples"):
        shards_of(settings(num_clients=61), task)


def test_ones_own_is_a_function_with_arguments_or_a_class(own, task):
    first = shards_of(settings(split=f"{own}halves"), task)
    assert [len(rows) for rows in first] == [50, 13, 13, 12, 12]
    last = shards_of(settings(split=f"{own}halves(swap=true)"), task)
    assert [rows.tolist() for rows in last] == [rows.tolist() for rows in first[::-1]]
    extreme = shards_of(settings(split="extreme"), task)
    found = shards_of(settings(split=f"{own}Backwards"), task)
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in extreme[::-1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dirichlt", "there is no 'dirichlt', expected one of iid, dirichlet, client-dirichlet, "),
        ("dirichlt", "did you mean dirichlet?"),
        ("dirichlet(beta=1)", "it takes alpha=0.1, least=10, balanced=False"),
        ("dirichlet(alpha=-1)", "dirichlet: alpha is -1, expected a finite number > 0"),
        ("iid | iid", "it is a chain, expected one name"),
        ("nowhere.py:split", "there is no file "),
        ("OWN:Missing", "has no 'Missing'"),
        ("OWN:THING", "cannot be called: a split is called with labels, n and rng"),
        ("OWN:bare", "client 1 of 5 holds no example; a least size (least=1)"),
        ("OWN:twice", "it deals row 0 more than once"),
        ("OWN:few", "it returns 1 arrays of rows, expected n = 5"),
        ("OWN:beyond", "it deals row 104, expected rows from 0 to 99"),
        ("OWN:real", "client 0's rows are of float64 and shape (1,), expected whole numbers"),
        ("OWN:broken", "KeyError"),
    ],
)
def test_what_is_wrong_with_a_split_is_said_in_a_sentence(own, task, text, message):
    text = text.replace("OWN:", own)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        shards_of(settings(split=text), task)
    assert str(error.value).startswith(f"split is {text!r}: ")


def test_a_missing_flwr_datasets_is_said_with_how_to_install_it(monkeypatch):
    for name in ("datasets", "flwr_datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "clients.tasks.flwr_datasets", raising=False)
    with pytest.raises(ValueError, match="install it with: pip install flwr-datasets"):
        parse_split("flwr-datasets:DirichletPartitioner(alpha=0.1)")


def test_flwr_datasets_partitioners_give_their_own_sets(own, make_task, tmp_path):
    pytest.importorskip("flwr_datasets", reason="flwr-datasets is not installed")
    task = make_task(400, "mnist")
    labels = task.train_y.numpy()
    text = "flwr-datasets:DirichletPartitioner(alpha=0.5, min_partition_size=0, seed=7)"
    found = shards_of(settings(split=text), task)
    expected = parse_split("dirichlet(alpha=0.5, least=0)")(labels, 5, np.random.default_rng(7))
    assert [set(a.tolist()) for a in found] == [set(b.tolist()) for b in expected]
    mine = "from flwr_datasets.partitioner import IidPartitioner\nP = IidPartitioner(5)\n"
    (tmp_path / "mine.py").write_text(mine)
    for _ in range(2):  # a partitioner of one's own can be used again
        parse = parse_split(f"{own}P")(labels, 5, np.random.default_rng(0))
        assert [rows.tolist() for rows in parse] == np.arange(400).reshape(5, 80).tolist()
    with pytest.raises(ValueError, match="makes 5 partitions, expected 4: one for each client"):
        shards_of(settings(split=f"{own}P", num_clients=4), task)
    with pytest.raises(ValueError, match="flwr-datasets has no 'Nothing', expected one of D"):
        parse_split("flwr-datasets:Nothing")


def test_a_shard_can_be_made_a_tensor_without_a_copy(task):
    rows = shards_of(settings(), task)[0]
    assert torch.from_numpy(rows).data_ptr() == rows.ctypes.data
