import errno
import fcntl
import importlib.util
import os
import sys
import threading
from types import SimpleNamespace

import pytest

from flwr_krum import lock as lock_module
from flwr_krum.lock import Lock, LockedError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.lock"


def test_a_lock_is_held_until_it_is_released_and_then_leaves_no_file(path):
    first = Lock(path, "the folder")
    with pytest.raises(LockedError, match=f"the folder is being written by process {os.getpid()} "):
        Lock(path, "the folder")
    first.release()
    assert not path.exists()
    with Lock(path, "the folder"):
        assert path.exists()
    assert not path.exists()


def test_a_lock_that_nobody_has_any_more_is_free(path):
    first = Lock(path, "it")
    del first
    Lock(path, "it").release()


def test_a_file_that_a_dead_process_left_locks_nothing(path):
    path.write_text("process 1 on elsewhere, and a long text of an older time\n")
    with Lock(path, "it"):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
        assert path.read_text().count("\n") == 1


def test_a_release_by_a_process_that_was_forked_frees_nothing(path):
    lock = Lock(path, "it")
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(LockedError):
        Lock(path, "it")
    lock.release()


def test_many_that_want_it_at_once_get_it_one_after_the_other(path):
    inside, most, got = [0], [0], [0]

    def want():
        while got[0] < 40:
            try:
                with Lock(path, "it"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    got[0] += 1
                    inside[0] -= 1
            except LockedError:
                continue

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_a_lock_whose_file_was_removed_by_its_holder_meanwhile_is_tried_again(path, monkeypatch):
    original, tries = lock_module._take, []

    def late(file):
        tries.append(file)
        if len(tries) == 1:
            path.unlink()  # as the holder does, just before it lets go
        original(file)

    monkeypatch.setattr(lock_module, "_take", late)
    with Lock(path, "it"):
        assert len(tries) == 2
        monkeypatch.undo()
        with pytest.raises(LockedError):
            Lock(path, "it")


def test_a_file_system_that_knows_no_locks_keeps_nobody_from_writing(path, monkeypatch):
    def unknown(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with Lock(path, "it"), Lock(path, "it"):
        pass


def test_a_lock_that_cannot_be_written_holds_nothing(path, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            Lock(path, "it")
    assert not path.exists()
    Lock(path, "it").release()


def test_on_windows_the_lock_lies_where_nobody_reads(path, monkeypatch):
    held = {}

    def locking(file, mode, count):
        place = (os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR))
        if place in held:
            raise OSError(errno.EACCES, "Permission denied")
        held[place] = (mode, count)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    spec = importlib.util.spec_from_file_location("windows_lock", lock_module.__file__)
    windows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(windows)
    lock = windows.Lock(path, "it")
    assert [(place > 1000, how) for (_, place), how in held.items()] == [(True, (2, 1))]
    assert path.read_text().startswith(f"process {os.getpid()} on ")
    with pytest.raises(windows.LockedError, match=f"process {os.getpid()} on "):
        windows.Lock(path, "it")
    lock.release()
