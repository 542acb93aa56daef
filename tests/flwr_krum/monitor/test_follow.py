"""A journal is followed through whatever happens to a file."""

import errno
import json
import os
from pathlib import Path

import pytest

from flwr_krum.monitor import follow
from flwr_krum.monitor.follow import Follower, News


@pytest.fixture
def file(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def follower(file):
    return Follower(file, lambda line: json.loads(line)["t"])


def lines(*rounds, run=1):
    return "".join(f'{{"t": {t}, "run": {run}}}\n' for t in rounds)


def test_a_file_that_comes_later_is_read_when_it_is_there(file, follower):
    assert follower.news().problem == f"{file} is not there yet"
    file.write_text(lines(1, 2))
    assert follower.news() == News([1, 2])
    assert follower.news() == News([])


def test_only_what_is_new_is_read(file, follower):
    file.write_text(lines(1))
    follower.news()
    with file.open("a") as more:
        more.write(lines(2, 3))
    assert follower.news() == News([2, 3])


def test_a_torn_last_line_is_left_until_it_is_whole(file, follower):
    file.write_text(lines(1) + '{"t": 2, "r')
    assert follower.news() == News([1])
    assert follower.news() == News([])
    with file.open("a") as more:
        more.write('un": 1}\n')
    assert follower.news() == News([2])


def test_a_torn_line_that_the_next_run_cuts_off_is_never_seen(file, follower):
    file.write_text(lines(1) + '{"t": 2, "r')
    follower.news()
    file.write_text(lines(1) + lines(2, run=2))
    assert follower.news() == News([2])


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_run_that_goes_on_from_an_earlier_round_is_read_anew(file, follower, after):
    # Cut after round 1 and written on, it may be shorter than before, or longer.
    file.write_text(lines(1, 2, 3))
    follower.news()
    with file.open("r+") as cut:
        cut.truncate(len(lines(1)))
        cut.seek(0, os.SEEK_END)
        cut.write(lines(*range(2, 2 + after), run=2))
    assert follower.news() == News([1, *range(2, 2 + after)], is_another=True)


def test_a_rotated_file_is_read_from_its_own_beginning(file, follower):
    file.write_text(lines(1, 2))
    follower.news()
    file.rename(file.with_suffix(".1"))
    assert follower.news().problem.endswith("is not there yet")
    file.write_text(lines(3, 4, 5))
    assert follower.news() == News([3, 4, 5], is_another=True)


def test_an_emptied_file_is_another(file, follower):
    file.write_text(lines(1, 2))
    follower.news()
    file.write_text("")
    assert follower.news() == News([], is_another=True)
    file.write_text(lines(3))
    assert follower.news() == News([3])


@pytest.mark.parametrize("bad", ["no json", "[]", "{}", "null", "[" * 100_000, "\xff\x00"])
def test_a_damaged_line_is_named_and_the_others_are_read(file, follower, bad):
    file.write_text(lines(1) + bad + "\n" + lines(2), encoding="latin-1")
    assert follower.news() == News([1, 2], damaged=(2,))


def test_a_long_file_comes_in_parts(file, follower, monkeypatch):
    monkeypatch.setattr(follow, "MOST", 2)
    file.write_text(lines(1, 2, 3, 4, 5))
    assert [follower.news().values for _ in range(4)] == [[1, 2], [3, 4], [5], []]


def test_what_is_no_file_is_named_and_not_waited_for(file, follower):
    os.mkfifo(file)
    assert follower.news().problem == f"{file} is no file"
    file.unlink()
    file.mkdir()
    assert follower.news().problem == f"{file} is no file"


def test_a_file_that_may_not_be_read_is_named(file, follower, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file.write_text(lines(1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert follower.news().problem == f"{file} cannot be read: Permission denied"
    assert follower.news() == News([1])


def test_a_path_through_a_file_is_named(file):
    file.write_text("")
    problem = Follower(file / "journal", int).news().problem
    assert problem == f"{file}/journal cannot be read: Not a directory"
