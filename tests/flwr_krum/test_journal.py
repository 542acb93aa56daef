import json
import math
import os

import pytest

from flwr_krum.intake import Refused
from flwr_krum.journal import Journal, JournalError, read_journal
from flwr_krum.report import RoundReport


def report(t, **changes):
    values = {
        "received": (1, "b"),
        "refused": (Refused("c", "holds NaN"), Refused(7, "not an npy array")),
        "failed": {9: "gone"},
        "silent": ("d", 4),
        "quarantined": (5,),
        "doubted": {1: "metric 'loss' is nan"},
        "scores": {1: 0.25, "b": math.inf},
        "selected": (1,),
        "weights": {1: 1.0},
        "metrics": {"loss": 0.5, "many": [1.0, 2.0]},
        "stepped": True,
        "note": "ü",
        "seconds": {"rule": 0.001},
    }
    return RoundReport(t, "Krum(f=1)", 1, **{**values, **changes})


def test_what_is_appended_is_read_back_with_ids_of_their_own_types(tmp_path):
    journal = Journal(tmp_path / "deep/journal.jsonl")
    for t in (1, 2):
        journal.append(report(t))
    assert read_journal(tmp_path / "deep/journal.jsonl") == [report(1), report(2)]


def test_each_round_is_one_line_of_json_without_nan(tmp_path):
    Journal(tmp_path / "j").append(report(1))
    (line,) = (tmp_path / "j").read_text().splitlines()
    read = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert read["server_round"] == 1
    assert read["scores"] == [[1, 0.25], ["b", None]]


def test_a_round_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j")
    sizes = []
    original = os.fsync

    def fsync(descriptor):
        original(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.append(report(1))
    assert sizes == [(tmp_path / "j").stat().st_size]
    assert sizes[0] > 0


@pytest.mark.parametrize("kept", [1, 20, -2, -1])
def test_a_last_line_that_a_crash_tore_is_left_out(tmp_path, kept):
    journal = Journal(tmp_path / "j")
    journal.append(report(1))
    whole = (tmp_path / "j").read_bytes()
    journal.append(report(2))
    torn = (tmp_path / "j").read_bytes()[len(whole) :][:kept]
    (tmp_path / "j").write_bytes(whole + torn)
    found = [r.server_round for r in read_journal(tmp_path / "j")]
    assert found == ([1, 2] if kept == -1 else [1])  # only the line break was lost


def test_going_on_after_a_torn_line_leaves_whole_lines_only(tmp_path):
    Journal(tmp_path / "j").append(report(1))
    with (tmp_path / "j").open("a") as file:
        file.write('{"server_round": 2, "ru')
    journal = Journal(tmp_path / "j", rounds_done=1)
    journal.append(report(2))
    assert read_journal(tmp_path / "j") == [report(1), report(2)]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    journal = Journal(tmp_path / "j")
    for t in (1, 2, 3):
        journal.append(report(t))
    lines = (tmp_path / "j").read_text().splitlines(keepends=True)
    for damaged in ("garbage\n", "{}\n", "[]\n", "3\n"):
        (tmp_path / "j").write_text(lines[0] + damaged + lines[2])
        with pytest.raises(JournalError, match="line 2: not a round report"):
            read_journal(tmp_path / "j")


def test_another_runs_journal_is_not_written_over(tmp_path):
    Journal(tmp_path / "j").append(report(1))
    with pytest.raises(JournalError, match=r"holds 1 rounds, the last 1: .*rounds_done=1"):
        Journal(tmp_path / "j")
    assert read_journal(tmp_path / "j") == [report(1)]


def test_going_on_from_an_earlier_round_drops_the_later_ones(tmp_path):
    journal = Journal(tmp_path / "j")
    for t in (1, 2, 3):
        journal.append(report(t))
    assert [r.server_round for r in Journal(tmp_path / "j", rounds_done=2).reports] == [1, 2]
    assert [r.server_round for r in read_journal(tmp_path / "j")] == [1, 2]


def test_an_empty_journal_is_no_other_run(tmp_path):
    Journal(tmp_path / "j")
    Journal(tmp_path / "j").append(report(1))
    assert len(read_journal(tmp_path / "j")) == 1
