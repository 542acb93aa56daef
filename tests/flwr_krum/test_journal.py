from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flwr_krum.boundary.replies import Refused, Reply
from flwr_krum.journal import Journal, JournalError, Unsynced, read_journal
from flwr_krum.report import RoundReport
from flwr_krum.round import Rounds
from flwr_krum.rules import Krum
from tests.flwr_krum.npy_bytes import npy

ZERO = np.zeros(1)


def report(t, **changes):
    full = RoundReport(
        server_round=t,
        rule="Krum(f=1, strict=True)",
        byzantine=1,
        received=(1, "2", 3),
        refused=(Refused(4, "array 'w': holds NaN"), Refused("x", "no arrays")),
        failed={5: "out of memory", "failure 1": "gone"},
        silent=(6, "7"),
        quarantined=(8,),
        doubted={3: "metric 'loss' is missing"},
        scores={1: 0.1, "2": math.inf, 3: 1e-300},
        selected=(3,),
        weights={3: 1.0},
        metrics={"loss": 0.25, "per-class": [0.5, 1.5]},
        stepped=True,
        note="",
        seconds={"intake": 0.001},
    )
    return replace(full, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "journal.jsonl"


def write(path, *rounds):
    journal = Journal(path)
    for t in rounds:
        journal.append(report(t))
    return path


def damage(path, number, line):
    """Put another text into line ``number``, counted from 1."""
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))


# --- write and read ---


def test_what_is_appended_is_read_back_in_order(path):
    write(path, 1, 2, 3)
    assert read_journal(path) == [report(1), report(2), report(3)]


def test_a_round_is_one_line_of_strict_json(path):
    write(path, 1, 2)
    lines = path.read_text().splitlines()
    assert len(lines) == 2

    def no_constants(name):
        raise AssertionError(f"{name} is not JSON")

    assert [json.loads(line, parse_constant=no_constants)["server_round"] for line in lines] == [
        1,
        2,
    ]


def test_the_folder_is_made_and_the_file_exists_before_the_first_round(path):
    assert Journal(path).reports == []
    assert path.read_bytes() == b""
    assert read_journal(path) == []


def test_ids_keep_their_types_and_scores_may_be_infinite(path):
    write(path, 1)
    (found,) = read_journal(path)
    assert [type(client) for client in found.received] == [int, str, int]
    assert {type(client) for client in found.scores} == {int, str}
    assert found.scores == {1: 0.1, "2": math.inf, 3: 1e-300}
    assert [type(r.client) for r in found.refused] == [int, str]
    assert [type(client) for client in found.failed] == [int, str]
    assert found.quarantined == (8,)


@pytest.mark.parametrize("name", ["line\nbreak", 'quote"', "ünï", "\ud800", "\x00", " \u2028"])
def test_names_and_reasons_may_hold_any_text(path, name):
    odd = report(1, received=(name,), refused=(Refused(name, name),), failed={name: name})
    Journal(path).append(odd)
    assert read_journal(path) == [odd]


def test_a_round_is_on_the_disk_when_append_returns(path, monkeypatch):
    synced = []
    journal = Journal(path)
    # What the system was given by then is what a sync brings to the disk.
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(path.read_bytes()))
    for t in (1, 2):
        journal.append(report(t))
        assert len(synced) == t
        assert synced[-1] == path.read_bytes()
        assert synced[-1].count(b"\n") == t


def test_an_unsynced_round_is_written_when_append_returns_and_never_synced(path, monkeypatch):
    journal = Journal(Unsynced(path))
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("synced"))
    for t in (1, 2):
        journal.append(report(t))
        assert read_journal(path)[-1] == report(t)


# --- crashes ---


def test_a_line_that_a_crash_tore_is_left_out_wherever_it_was_torn(path):
    whole = write(path, 1, 2, 3).read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(last, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        assert [r.server_round for r in read_journal(path)] == [1, 2]


def test_a_last_round_that_lacks_only_its_line_end_counts(path):
    whole = write(path, 1, 2).read_bytes()
    path.write_bytes(whole[:-1])
    assert [r.server_round for r in read_journal(path)] == [1, 2]
    Journal(path, 2).append(report(3))
    assert [r.server_round for r in read_journal(path)] == [1, 2, 3]


def test_going_on_after_a_torn_line_drops_it_from_the_file(path):
    whole = write(path, 1, 2, 3).read_bytes()
    path.write_bytes(whole[:-20])
    journal = Journal(path, 2)
    assert [r.server_round for r in journal.reports] == [1, 2]
    journal.append(report(3, note="again"))
    assert read_journal(path) == [report(1), report(2), report(3, note="again")]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage", b"{}", b"[]", b"5", b"null", b'"text"', b"\xff\xfe", b'{"server_round": 2',
        b'{"server_round": 2, "rule": "Krum", "byzantine": 1}', b'[["server_round", 2]]',
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_line_that_is_not_the_last_is_named_by_number(path, number, line):
    write(path, 1, 2, 3)
    damage(path, number, line)
    before = path.read_bytes()
    for read in (read_journal, lambda p: Journal(p, 3)):
        with pytest.raises(JournalError, match=rf"journal\.jsonl, line {number}: not a round"):
            read(path)
    assert path.read_bytes() == before


def test_a_damaged_last_line_with_its_line_end_is_no_torn_one(path):
    write(path, 1, 2)
    damage(path, 2, b"garbage")
    with pytest.raises(JournalError, match="line 2: not a round report"):
        read_journal(path)


def test_a_report_with_an_unknown_field_is_not_read_as_one(path):
    write(path, 1, 2)
    values = {**report(1).to_json(), "surprise": 1}
    damage(path, 1, json.dumps(values).encode())
    with pytest.raises(JournalError, match="line 1"):
        read_journal(path)


# --- other runs, and going on ---


def test_another_run_is_not_written_over(path):
    before = write(path, 1, 2, 7).read_bytes()
    with pytest.raises(JournalError, match=r"holds 3 rounds, the last 7: .*rounds_done=7"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_strategy_does_not_start_on_the_journal_of_another_run(federation, path):
    write(path, 1)
    with pytest.raises(JournalError, match="already holds 1 rounds"):
        federation.strategy("Krum", 1, journal=path)


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_going_on_keeps_the_rounds_done_and_drops_later_ones(path, done):
    write(path, 1, 2, 3)
    journal = Journal(path, done)
    kept = [report(t) for t in range(1, min(done, 3) + 1)]
    assert journal.reports == kept
    assert read_journal(path) == kept
    journal.append(report(done + 1, note="new"))
    assert read_journal(path) == [*kept, report(done + 1, note="new")]


def test_going_on_leaves_no_other_file_behind(path):
    write(path, 1, 2)
    Journal(path, 1).append(report(2))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_crash_while_the_journal_is_cut_leaves_the_old_one(path, monkeypatch):
    before = write(path, 1, 2, 3).read_bytes()

    def crash(fd):
        raise OSError("the lights went out")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="lights"):
            Journal(path, 1)
    assert path.read_bytes() == before
    assert [r.server_round for r in Journal(path, 2).reports] == [1, 2]


def test_a_journal_may_be_named_by_text(path):
    Journal(str(path)).append(report(1))
    assert read_journal(str(path)) == [report(1)]


# --- through rounds ---


def test_every_round_is_journaled_before_it_returns(path):
    rounds = Rounds(Krum(1), journal=path)
    rounds.begin({"w": ZERO}, range(1, 7))
    replies = [Reply(i, {"w": npy(ZERO + i)}) for i in range(1, 6)]
    bad = Reply(6, {"w": npy(ZERO * math.nan)})
    for t, sent in enumerate(([*replies, bad], replies[:2], []), 1):
        _, made = rounds.finish(t, sent, {9: "error"})
        assert read_journal(path)[-1] == made
        assert len(read_journal(path)) == t
    assert [r.stepped for r in read_journal(path)] == [True, False, False]
    assert read_journal(path)[0].refused == (Refused(6, "array 'w': holds NaN"),)


def test_a_round_that_raises_is_in_the_journal(path):
    rounds = Rounds(Krum(1), on_infeasible="raise", journal=path)
    with pytest.raises(ValueError, match="no reply"):
        rounds.finish(4, [])
    (found,) = read_journal(path)
    assert (found.server_round, found.note) == (4, "no reply was accepted")


def test_reports_go_on_from_the_journal(path):
    write(path, 1, 2, 3)
    rounds = Rounds(Krum(1), journal=Path(path), rounds_done=2)
    assert list(rounds.reports) == [report(1), report(2)]


def test_the_strategies_of_both_apis_write_the_same_journal(federation, path):
    strategy = federation.strategy("Krum", 1, journal=path)
    sent = {i: [np.array([float(i)], np.float32)] for i in range(1, 6)}
    sent[6] = [np.array([math.nan], np.float32)]
    federation.configure(strategy, [np.zeros(1, np.float32)], sent)
    federation.aggregate(strategy, sent)
    assert read_journal(path) == strategy.reports
    assert read_journal(path)[0].refused[0].client == federation.name(6)


def test_an_empty_journal_is_no_other_run(path):
    Journal(path)
    Journal(path).append(report(1))
    assert read_journal(path) == [report(1)]
