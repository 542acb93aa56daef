"""Tasks that no package carries: what is said where their files are missing or others."""

import re

import pytest

from clients import DataError, Settings, load_task


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("fashion-mnist", "FashionMNIST/raw: no such files; expected the four of Fashion-MNIST"),
        ("cifar-10", "cifar-10-batches-py/data_batch_1: no such file; expected one whose md5 sum"),
    ],
)
def test_missing_files_are_named_with_the_way_to_fetch_them(tmp_path, task, problem):
    with pytest.raises(DataError, match=re.escape(problem)) as error:
        load_task(Settings(task=task, data_dir=str(tmp_path)))
    assert "set download=true to fetch" in str(error.value)


def test_a_pickle_under_cifars_name_is_refused_unread(tmp_path):
    file = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    file.parent.mkdir()
    file.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=r"data_batch_1: not the original: its md5 sum is \w{32};"):
        load_task(Settings(task="cifar-10", data_dir=str(tmp_path)))
