import os
import socket

import pytest

from flwr_krum.lines import FileError
from flwr_krum.lock import LockedError
from simulations.run.folder import alone_in, replace_file


def test_a_folder_is_made_and_belongs_to_one_run_at_a_time(tmp_path):
    folder = tmp_path / "runs/a"
    who = f"{folder} is being written by process {os.getpid()} on {socket.gethostname()}: wait"
    with (
        alone_in(folder),
        alone_in(tmp_path / "runs/b"),
        pytest.raises(LockedError, match=who),
        alone_in(folder),
    ):
        pass
    assert list(folder.iterdir()) == []
    with alone_in(folder):
        pass


@pytest.mark.parametrize("parts", [("file",), ("file", "run")])
def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path, parts):
    (tmp_path / "file").write_text("")
    folder = tmp_path.joinpath(*parts)
    with pytest.raises(FileError, match=f"{folder} cannot be written: "), alone_in(folder):
        pass


def test_a_file_is_replaced_in_one_step_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    replace_file(path, b"old")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "write_bytes", full)
        with pytest.raises(FileError, match=r"config\.json cannot be written: No space left"):
            replace_file(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"old")]
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
