from __future__ import annotations

import copy
import errno
import json
import math
import os
import pickle
import re
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flwr_krum.boundary.replies import Refused, Reply
from flwr_krum.journal import Journal, JournalError, read_journal
from flwr_krum.report import RoundReport
from flwr_krum.round import Rounds
from flwr_krum.rules import Krum, Medoid, OneMinusPKrum, inverse_square_root
from tests.flwr_krum.npy_bytes import npy
from tests.full_disk import files_of_at_most

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
    journal = Journal(path, sync=False)
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
    assert path.read_bytes() == whole[:-20]
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


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        json.dumps({**RoundReport(1, "r", 0).to_json(), "server_round": "1"}),
    ],
)
def test_any_damaged_line_is_a_journal_error(tmp_path, line):
    path = tmp_path / "j"
    path.write_text(f"{line}\n{json.dumps(RoundReport(2, 'r', 0).to_json())}\n")
    with pytest.raises(JournalError, match="line 1"):
        Journal(path, 2)


# --- other runs, and going on ---


def test_another_run_is_not_written_over(path):
    before = write(path, 1, 2, 7).read_bytes()
    with pytest.raises(JournalError, match=r"holds 3 rounds, the last 7: .*rounds_done=7"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ['{"precious": 1}', "one line without a line end"])
def test_a_file_that_is_no_journal_is_not_written_over(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(JournalError):
        Journal(path)
    assert path.read_text() == text


def test_a_strategy_does_not_start_on_the_journal_of_another_run(federation, path):
    write(path, 1)
    with pytest.raises(JournalError, match="already holds 1 rounds"):
        federation.strategy("Krum", 1, journal=path)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_going_on_keeps_the_rounds_done_and_drops_later_ones_with_the_next(path, done):
    before = write(path, 1, 2, 3).read_bytes()
    journal = Journal(path, done)
    kept = [report(t) for t in range(1, done + 1)]
    assert journal.reports == kept
    assert path.read_bytes() == before
    journal.append(report(done + 1, note="new"))
    assert read_journal(path) == [*kept, report(done + 1, note="new")]


def test_going_on_leaves_no_other_file_behind(path):
    write(path, 1, 2)
    Journal(path, 1).append(report(2))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_journal_that_begins_late_says_no_more_than_it_knows(path):
    journal = Journal(path, 5)
    assert journal.reports == []
    journal.append(report(6))
    assert read_journal(path) == [report(6)]


def test_going_on_after_rounds_that_the_file_does_not_hold_is_refused(path):
    before = write(path, 1, 2, 3).read_bytes()
    with pytest.raises(JournalError, match=r"ends with round 3, and rounds_done is 4: go on with"):
        Journal(path, 4)
    assert path.read_bytes() == before


def test_going_on_after_two_runs_that_wrote_one_file_is_refused_and_reading_is_not(path):
    lines = write(path, 1, 2).read_bytes()
    path.write_bytes(lines + lines)
    with pytest.raises(JournalError, match="round 1, report 3, follows round 2: more than one run"):
        Journal(path, 2)
    assert [r.server_round for r in read_journal(path)] == [1, 2, 1, 2]


@pytest.mark.parametrize("t", [1, 2])
def test_a_round_that_is_not_later_than_the_last_is_refused(path, t):
    journal = Journal(path)
    for done in (1, 2):
        journal.append(report(done))
    with pytest.raises(JournalError, match=rf"round {t} follows round 2; .*rounds_done=2"):
        journal.append(report(t))
    assert [r.server_round for r in read_journal(path)] == [1, 2]


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


# --- rules and times ---


def test_another_kind_of_rule_is_refused_before_anything_is_written(path):
    before = write(path, 1, 2).read_bytes()
    with pytest.raises(JournalError, match=r"rounds of Krum\(f=1, .*and the rule is Medoid\("):
        Rounds(Medoid(), journal=path, rounds_done=1)
    assert path.read_bytes() == before


@pytest.mark.parametrize("rule", [Krum(1), Krum(2), Krum(0, strict=False)])
def test_the_same_rule_may_go_on_with_other_numbers(path, rule):
    write(path, 1, 2)
    assert len(Rounds(rule, journal=path, rounds_done=2).reports) == 2


def test_a_chain_of_rules_is_told_from_its_parts(path):
    journal = Journal(path)
    journal.append(report(1, rule="Chain(Clipping(tau=2.0), Krum(f=1))"))
    journal.close()
    again = Journal(path, 1)
    again.check_rule("Chain(Clipping(tau=9.0), Krum(f=3))")
    for other in ("Krum(f=1)", "Chain(Clipping(tau=2.0), Medoid())"):
        with pytest.raises(JournalError, match="the rule is"):
            again.check_rule(other)


def test_a_line_says_when_its_round_was_over_in_utc(path):
    before = datetime.now(UTC).replace(microsecond=0)
    made = report(1)
    Journal(path).append(made)
    (line,) = path.read_text().splitlines()
    written = datetime.fromisoformat(json.loads(line)["time"])
    assert written.utcoffset() == timedelta(0)
    assert before <= written <= datetime.now(UTC)
    (found,) = read_journal(path)
    assert found.time == made.time


def test_a_journal_from_before_there_were_times_is_read_and_gone_on_with(path):
    write(path, 1, 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["time"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_journal(path) == [report(1), report(2)]
    assert [r.time for r in read_journal(path)] == ["", ""]
    Journal(path, 2).append(report(3))
    assert [bool(r.time) for r in read_journal(path)] == [False, False, True]


@pytest.mark.parametrize(
    ("p", "written"),
    [
        (inverse_square_root, "p=flwr_krum.rules.krum.inverse_square_root"),
        (lambda t: 0.5, r"p=[\w.]*test_journal\.<lambda>"),
        (partial(max, 0.5), r"p=functools\.partial\(<built-in function max>, 0\.5\)"),
        (type("Odd", (), {"__call__": lambda self, t: 0.5})(), r"p=<[\w.]*Odd object>"),
        (0.25, r"p=0\.25"),
    ],
)  # fmt: skip
def test_a_rule_is_written_without_addresses(path, p, written):
    rounds = Rounds(OneMinusPKrum(1, p), journal=path)
    rounds.finish(1, [Reply(i, {"w": npy(ZERO + i)}) for i in range(5)])
    (line,) = path.read_text().splitlines()
    assert "0x" not in line
    assert re.search(written, json.loads(line)["rule"])
    assert not any("0x" in setting for setting in rounds.summary("Strategy"))


@pytest.mark.parametrize(
    "change",
    [
        {"received": 5}, {"scores": {}}, {"refused": None}, {"metrics": []}, {"seconds": 1.0},
        {"rule": None}, {"note": 3}, {"stepped": "yes"}, {"byzantine": "1"}, {"time": 5},
        {"server_round": "1"}, {"guarantee": 7}, {"refused": [[1]]}, {"scores": [5]},
        {"basis": 5}, {"seed": "1"}, {"bars": [3]}, {"refused": [[1, 5]]}, {"failed": [[1, 5]]},
        {"doubted": [[1, None]]},
    ],
)  # fmt: skip
def test_a_field_of_another_kind_is_damage(path, change):
    path.parent.mkdir()
    path.write_text(json.dumps({**report(1).to_json(), **change}) + "\n")
    with pytest.raises(JournalError, match="line 1: not a round report"):
        read_journal(path)


@pytest.mark.parametrize("client", [[1], {}, 1.5, None])
@pytest.mark.parametrize("name", ["received", "silent", "late", "barred", "scores", "refused"])
def test_a_client_that_is_no_client_id_is_damage(path, name, client):
    path.parent.mkdir()
    found = {"scores": [[client, 1.0]], "refused": [[client, "why"]]}.get(name, [client])
    path.write_text(json.dumps({**report(1).to_json(), name: found}) + "\n")
    with pytest.raises(JournalError, match="line 1: not a round report"):
        read_journal(path)


@pytest.mark.parametrize("name", ["server_round", "byzantine", "needed", "seed"])
def test_a_number_beyond_all_counts_is_damage(path, name):
    path.parent.mkdir()
    for number, is_sound in ((2**63 - 1, True), (2**63, False), (10**400, False)):
        path.write_text(json.dumps({**report(1).to_json(), name: number}) + "\n")
        if is_sound:
            assert getattr(read_journal(path)[0], name) == number
        else:
            with pytest.raises(JournalError, match="line 1: not a round report"):
                read_journal(path)


# --- one writer, one file ---


def test_a_second_process_is_refused_and_told_who_writes(path):
    journal = Journal(path)
    journal.append(report(1))
    code = f"from flwr_krum.journal import Journal; Journal({str(path)!r}, 1)"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert second.returncode == 1
    who = f"process {os.getpid()} on {socket.gethostname()}"
    last = second.stderr.strip().splitlines()[-1]
    assert last.startswith("flwr_krum.journal.JournalError: ")
    assert f"{path} is being written by {who}: wait for it" in last
    journal.append(report(2))
    assert len(read_journal(path)) == 2


def test_a_run_that_was_killed_holds_nothing(path):
    code = f"""
import os
from flwr_krum.journal import Journal
journal = Journal({str(path)!r})
print(os.listdir({str(path.parent)!r}), flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -9
    assert f"{path.name}.lock" in killed.stdout
    assert Path(f"{path}.lock").exists()
    Journal(path).append(report(1))
    assert read_journal(path) == [report(1)]


def test_in_one_process_the_newest_journal_of_a_file_takes_it_over(path):
    first = Journal(path)
    first.append(report(1))
    second = Journal(path, 1)
    second.append(report(2))
    with pytest.raises(JournalError, match="a later strategy of this process has taken it over"):
        first.append(report(2))
    del first
    second.append(report(3))
    assert [r.server_round for r in read_journal(path)] == [1, 2, 3]


def test_a_journal_that_cannot_be_taken_over_stays_with_who_has_it(path):
    first = Journal(path)
    first.append(report(1))
    with pytest.raises(JournalError, match="already holds 1 rounds"):
        Journal(path)
    first.append(report(2))
    assert [r.server_round for r in read_journal(path)] == [1, 2]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda j: pickle.loads(pickle.dumps(j))])
def test_a_copy_takes_the_file_with_its_first_round(path, copied):
    first = Journal(path)
    first.append(report(1))
    second = copied(first)
    first.append(report(2))
    second.append(report(2, note="again"))
    with pytest.raises(JournalError, match="has taken it over"):
        first.append(report(3))
    assert read_journal(path) == [report(1), report(2, note="again")]


def test_a_closed_journal_leaves_nothing_and_opens_again_with_its_next_round(path):
    with Journal(path) as journal:
        journal.append(report(1))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    journal.append(report(2))
    assert [r.server_round for r in read_journal(path)] == [1, 2]


def test_a_writer_that_no_lock_kept_away_is_noticed_before_it_is_written_over(path):
    journal = Journal(path)
    journal.append(report(1))
    with path.open("ab") as other:
        other.write(b"mine\n")
    with pytest.raises(JournalError, match=r"round 2: .*somebody else writes it as well"):
        journal.append(report(2))
    assert path.read_bytes().endswith(b"mine\n")


def make_pipe(path):
    os.mkfifo(path)


def make_link(path):
    path.with_name("target").write_bytes(b"")
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize(
    ("make", "what"),
    [(make_pipe, "a named pipe"), (make_link, "a symbolic link"), (Path.mkdir, "a folder")],
)
def test_what_is_no_file_is_refused_by_name(path, make, what):
    path.parent.mkdir()
    make(path)
    with pytest.raises(JournalError, match=rf"journal\.jsonl is {what}, expected a file"):
        Journal(path)
    assert sorted(path.parent.iterdir()) == sorted({path, *path.parent.glob("target")})


@pytest.mark.parametrize(("make", "what"), [(make_pipe, "a named pipe"), (Path.mkdir, "a folder")])
def test_what_is_no_file_is_not_read(path, make, what):
    path.parent.mkdir()
    make(path)
    with pytest.raises(JournalError, match=f"is {what}, expected a file"):
        read_journal(path)


def test_a_device_is_no_journal():
    for use in (Journal, read_journal):
        with pytest.raises(JournalError, match="/dev/full is a device"):
            use("/dev/full")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file/journal cannot be written: (Not|File)"):
        Journal(tmp_path / "file/journal")


def test_a_file_that_cannot_be_read_is_a_sentence(path, monkeypatch):
    write(path, 1)
    failing = lambda self: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))  # noqa: E731
    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(JournalError, match="cannot be read: Input/output error"):
        read_journal(path)


# --- a disk that is full, or broken ---


def test_a_round_that_does_not_fit_on_the_disk_is_cut_off_again(path):
    journal = Journal(path)
    journal.append(report(1))
    before = path.read_bytes()
    with (
        files_of_at_most(len(before) + 20),
        pytest.raises(JournalError, match=r"round 2: .*journal\.jsonl cannot be written: File"),
    ):
        journal.append(report(2))
    assert path.read_bytes() == before
    journal.append(report(2))
    assert [r.server_round for r in read_journal(path)] == [1, 2]


def test_a_round_that_the_disk_does_not_keep_is_cut_off_again(path, monkeypatch):
    journal = Journal(path)
    journal.append(report(1))
    before = path.read_bytes()

    def broken(fd):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(JournalError, match=r"round 2: .*Input/output error"):
            journal.append(report(2))
    assert path.read_bytes() == before
    journal.append(report(2))
    assert [r.server_round for r in read_journal(path)] == [1, 2]


def test_a_round_that_is_interrupted_while_it_is_written_is_cut_off_again(path, monkeypatch):
    journal = Journal(path)
    original = os.write

    def interrupted(fd, data):
        original(fd, data[:30])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append(report(1))
    assert path.read_bytes() == b""


def test_a_disk_that_takes_a_line_in_parts_gets_all_of_it(path, monkeypatch):
    journal = Journal(path)
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: original(fd, data[:7]))
    journal.append(report(1))
    assert read_journal(path) == [report(1)]


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal("journal")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.append(report(1))
    assert read_journal(tmp_path / "journal") == [report(1)]


# --- a journal that is handed in ---


def test_a_journal_that_is_open_is_handed_to_a_strategy(federation, path):
    strategy = federation.strategy("Krum", 1, journal=Journal(path, sync=False))
    sent = {i: [np.array([float(i)], np.float32)] for i in range(1, 6)}
    federation.configure(strategy, [np.zeros(1, np.float32)], sent)
    federation.aggregate(strategy, sent)
    assert read_journal(path) == strategy.reports


def test_a_journal_that_is_open_for_other_rounds_is_refused(path):
    write(path, 1, 2)
    with pytest.raises(JournalError, match="is open after 1 rounds, and rounds_done is 2"):
        Rounds(Krum(1), journal=Journal(path, 1), rounds_done=2)
