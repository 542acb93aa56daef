"""The operator's word about a node: given beside the run, obeyed in the next round, never lost."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from flwr_krum.journal import read_journal
from flwr_krum.lock import Lock
from flwr_krum.nodes import main
from flwr_krum.orders import LARGEST, Orders, OrdersError, orders_beside, read_orders, write_orders
from flwr_krum.report import RoundReport

MODEL = [np.zeros(3, np.float32)]
NAMES = {node: f"site {node}" for node in range(9)}


@pytest.fixture
def journal(tmp_path):
    """Return a journal without a round, as a run makes it at its start."""
    path = tmp_path / "journal.jsonl"
    path.touch()
    return path


@pytest.fixture
def order(journal, capsys):
    """Give an order as on the command line; return what is said, or fail with the error."""

    def order(what, *nodes):
        code = main([what, "--journal", str(journal), *nodes])
        said = capsys.readouterr()
        assert code == (2 if said.err else 0)
        return said.err or said.out

    return order


class Run:
    """A run of nine named nodes through one of the two APIs."""

    def __init__(self, federation, journal, **options):
        self.federation = federation
        options = {"quarantine": 1, "client_id": self.name, **options}
        self.strategy = federation.strategy("Krum", 2, journal=journal, **options)
        self.t = 0

    def name(self, client):
        return NAMES[int(getattr(client, "cid", client))]

    def play(self, bad=()):
        """Play a round; return who was asked, and the report."""
        self.t += 1
        asked = self.federation.configure(self.strategy, MODEL, range(9), self.t)
        lie, truth = [np.full(3, np.nan, np.float32)], [np.ones(3, np.float32)]
        if asked:
            sent = {node: lie if node in bad else truth for node in asked}
            self.federation.aggregate(self.strategy, sent, self.t)
        elif self.federation.names_arrays:  # the other API ends the round by itself
            self.federation.aggregate(self.strategy, {}, self.t)
        return sorted(asked), self.strategy.last_report


@pytest.fixture
def run(federation, journal):
    return Run(federation, journal)


def test_a_barred_node_is_asked_no_more_from_the_next_round_on(run, journal, order):
    assert run.play()[0] == list(range(9))
    assert order("quarantine", "site 3") == "barred: site 3\n"
    for _ in range(2):
        asked, report = run.play()
        assert asked == [0, 1, 2, 4, 5, 6, 7, 8]
        assert report.barred == report.quarantined == ("site 3",)
        assert "barred by the operator: site 3" in report.lines()
        assert report.stepped
    assert read_journal(journal)[-1].barred == ("site 3",)


def test_a_barred_node_is_not_asked_to_evaluate_either(run, order):
    order("quarantine", "site 3")
    run.play()
    asked = run.federation.configure_evaluate(run.strategy, MODEL, range(9), run.t)
    assert sorted(asked) == [0, 1, 2, 4, 5, 6, 7, 8]


def test_a_released_node_is_asked_again(run, order):
    order("quarantine", "site 3", "site 4")
    run.play()
    assert order("release", "site 3") == "barred: site 4\n"
    asked, report = run.play()
    assert asked == [0, 1, 2, 3, 5, 6, 7, 8]
    assert report.barred == ("site 4",)


def test_a_release_forgives_refusals_up_to_now_and_none_after(run, order):
    run.play(bad=[8])
    assert run.play()[1].quarantined == ("site 8",)
    order("release", "site 8")
    assert run.play()[1].quarantined == ()
    run.play(bad=[8])
    assert run.play()[1].quarantined == ("site 8",)
    order("release", "site 8")
    run.play(bad=[8])
    order("release", "site 8")  # at once, so that the last round's refusal is forgiven as well
    assert run.play()[1].quarantined == ()


def test_a_release_forgives_nothing_in_a_later_run_with_the_same_journal(
    federation, journal, order
):
    first = Run(federation, journal)
    for _ in range(3):
        first.play()
    order("release", "site 8")
    first.strategy._rounds._ledger._journal.close()
    journal.unlink()
    second = Run(federation, journal)
    second.play(bad=[8])
    assert second.play()[1].quarantined == ("site 8",)


def test_a_release_by_a_clock_that_is_ahead_forgives_what_was_and_nothing_after(run, journal):
    run.play(bad=[8])
    write_orders(
        orders_beside(journal), Orders(readmitted={"site 8": "9999-01-01T00:00:00.000+00:00"})
    )
    assert run.play()[1].quarantined == ()
    run.play(bad=[8])
    for _ in range(2):
        assert run.play()[1].quarantined == ("site 8",)


def test_a_release_forgives_the_last_round_also_where_the_clock_was_set_back(
    federation, journal, order
):
    first = Run(federation, journal)
    first.play(bad=[8])
    first.strategy._rounds._ledger._journal.close()
    report = json.loads(journal.read_text())
    journal.write_text(json.dumps(report | {"time": "9999-01-01T00:00:00.000+00:00"}) + "\n")
    order("release", "site 8")
    again = Run(federation, journal, rounds_done=1)
    again.t = 1
    assert again.play()[1].quarantined == ()


def test_refusals_of_a_journal_that_tells_no_time_count(federation, journal):
    first = Run(federation, journal)
    first.play(bad=[8])
    first.strategy._rounds._ledger._journal.close()
    report = json.loads(journal.read_text())
    journal.write_text(json.dumps(report | {"time": ""}) + "\n")
    assert Run(federation, journal, rounds_done=1).play()[1].quarantined == ("site 8",)


def test_an_order_outlives_the_run(federation, journal, order):
    Run(federation, journal).play()
    order("quarantine", "site 3")
    again = Run(federation, journal, rounds_done=1)
    assert again.play()[1].barred == ("site 3",)


def test_an_order_may_come_before_the_first_round(federation, journal, order):
    said = order("quarantine", "site 3")
    assert "no round has named site 3 so far: is it spelt as in the journal?" in said
    assert Run(federation, journal).play()[1].barred == ("site 3",)


def test_a_number_is_barred_by_its_text(federation, journal, order):
    run = Run(federation, journal, client_id=None)
    order("quarantine", "3")
    asked, report = run.play()
    assert 3 not in asked
    assert list(map(str, report.barred)) == ["3"]


# --- too many ---


def test_barring_more_than_the_rule_can_spare_is_obeyed_and_said(run, order):
    run.play()
    assert "only" not in order("quarantine", "site 0", "site 1")  # Krum at f = 2 needs 7
    said = order("quarantine", "site 2")
    assert "only 6 of the nodes of round 1 are left to be asked, and Krum(f=2" in said
    assert "needs 7 replies" in said
    asked, report = run.play()
    assert asked == [3, 4, 5, 6, 7, 8]
    assert not report.stepped
    assert report.barred == ("site 0", "site 1", "site 2")
    assert "only" not in order("release", "site 0")
    assert run.play()[1].stepped


def test_what_is_left_counts_those_of_the_last_round_and_those_released(run, order):
    run.play()
    order("quarantine", *(f"site {i}" for i in range(4)))
    run.play()
    assert "only 6 of the nodes of round 2" in order("release", "site 0")
    assert "only" not in order("release", "site 1")


def test_when_all_are_barred_the_round_is_reported_and_the_model_stays(run, order):
    run.play()
    order("quarantine", *NAMES.values())
    asked, report = run.play()
    assert asked == []
    assert (report.server_round, report.stepped, len(report.barred)) == (2, False, 9)
    assert len(run.strategy.reports) == 2


def test_refusals_leave_out_no_more_than_bars_leave_to_spare(run, order):
    run.play(bad=[7, 8])
    order("quarantine", "site 0", "site 1")
    assert run.play()[1].quarantined == ("site 0", "site 1")  # 7 are left, and are needed


# --- a file that cannot be read ---

DAMAGED = {
    "torn": '{"barred": ["si',
    "empty": "",
    "a list": "[]",
    "a number in it": '{"barred": [3], "readmitted": {}}',
    "a time that is a number": '{"barred": [], "readmitted": {"a": 1}}',
    "a time that is none": '{"barred": [], "readmitted": {"a": "yesterday"}}',
    "a time without its zone": '{"barred": [], "readmitted": {"a": "2026-01-01T00:00:00.000"}}',
    "a time elsewhere": '{"barred": [], "readmitted": {"a": "2026-01-01T00:00:00.000+01:00"}}',
    "a time in short": '{"barred": [], "readmitted": {"a": "20260101"}}',
    "something else": '{"barred": [], "readmitted": {}, "freed": ["a"]}',
    "too deep": "[" * 100_000,
    "no text": "\xff\xfe",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_named_and_frees_nobody(run, journal, order, what):
    order("quarantine", "site 3")
    run.play()
    orders_beside(journal).write_text(DAMAGED[what], encoding="latin-1")
    asked, report = run.play()
    assert 3 not in asked
    assert report.note.startswith(f"{orders_beside(journal)} holds no orders: ")
    assert report.note.endswith("; the orders before it stand, barred: site 3")
    assert report.is_remarkable()


def test_no_more_is_read_of_a_file_than_orders_take(run, journal, order):
    order("quarantine", "site 3")
    run.play()
    with orders_beside(journal).open("wb") as file:
        file.truncate(LARGEST + 2**28)  # a hole: it takes no room on the disk
    tracemalloc.start()
    report = run.play()[1]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.barred == ("site 3",)
    assert f"{orders_beside(journal)} holds no orders: more than {LARGEST} bytes" in report.note
    assert most < 2**26


def test_orders_that_fill_the_largest_file_are_read_and_one_more_is_not_written(journal, order):
    path = orders_beside(journal)
    room = LARGEST - len(json.dumps(Orders(frozenset([""])).to_json(), indent=1)) - 1
    write_orders(path, Orders(frozenset(["a" * room])))
    assert path.stat().st_size == LARGEST
    said = order("quarantine", "b")
    assert said.startswith(f"OrdersError: {path} cannot hold these orders: more than {LARGEST} b")
    assert read_orders(path).barred == {"a" * room}


def test_a_file_that_is_gone_or_no_file_frees_nobody(run, journal, order):
    order("quarantine", "site 3")
    run.play()
    path = orders_beside(journal)
    path.unlink()
    assert run.play()[1].barred == ("site 3",)
    assert f"{path} is gone" in run.strategy.last_report.note
    path.mkdir()
    assert run.play()[1].barred == ("site 3",)
    assert f"{path} is a folder, expected a file" in run.strategy.last_report.note


def test_a_file_that_is_whole_again_is_obeyed_without_a_note(run, journal, order):
    order("quarantine", "site 3")
    run.play()
    orders_beside(journal).write_text("")
    run.play()
    write_orders(orders_beside(journal), Orders(frozenset(["site 4"])))
    report = run.play()[1]
    assert (report.barred, report.note) == (("site 4",), "")


@pytest.mark.parametrize("what", DAMAGED)
def test_no_run_begins_and_no_order_is_given_on_a_damaged_file(federation, journal, order, what):
    orders_beside(journal).write_text(DAMAGED[what], encoding="latin-1")
    with pytest.raises(OrdersError, match="holds no orders"):
        Run(federation, journal)
    for command in (("list",), ("quarantine", "a"), ("release", "a")):
        assert order(*command).startswith("OrdersError: ")
    assert orders_beside(journal).read_text("latin-1") == DAMAGED[what]


def test_a_time_of_another_form_is_named_with_the_legal_one(journal, order):
    orders_beside(journal).write_text('{"barred": [], "readmitted": {"a": "2026-W01-1"}}')
    said = order("quarantine", "b")
    assert "'a' is readmitted at '2026-W01-1', expected a time such as 2026-01-31T09" in said


def test_where_the_file_is_gone_an_order_adds_to_what_the_last_round_obeyed(run, journal, order):
    order("quarantine", "site 3")
    run.play()
    orders_beside(journal).unlink()
    assert order("quarantine", "site 4") == "barred: site 3, site 4\n"


def test_bars_outlive_the_file_also_for_nodes_that_the_last_round_did_not_sample(
    federation, journal, order
):
    first = Run(federation, journal)
    order("quarantine", "site 3", "site 10")
    first.play()
    orders_beside(journal).unlink()
    again = Run(federation, journal, rounds_done=1)
    again.t = 1
    asked, report = again.play()
    assert 3 not in asked
    assert (report.barred, report.bars) == (("site 3",), ("site 10", "site 3"))
    assert f"{orders_beside(journal)} is gone" in report.note
    assert order("quarantine", "site 4").startswith("barred: site 10, site 3, site 4\n")


def test_bars_outlive_the_file_where_a_run_goes_back_to_a_round_before_them(
    federation, journal, order
):
    first = Run(federation, journal)
    first.play()
    order("quarantine", "site 3")
    first.play()
    orders_beside(journal).unlink()
    again = Run(federation, journal, rounds_done=1)
    again.t = 1
    assert again.play()[1].barred == ("site 3",)


def test_nobody_stays_barred_who_was_released_before_the_file_was_lost(federation, journal, order):
    first = Run(federation, journal)
    order("quarantine", "site 3")
    first.play()
    order("release", "site 3")
    first.play()
    orders_beside(journal).unlink()
    again = Run(federation, journal, rounds_done=2)
    again.t = 2
    report = again.play()[1]
    assert (report.barred, report.bars, report.note) == ((), (), "")


def test_an_older_journal_bars_those_whom_it_names(federation, journal, order):
    first = Run(federation, journal)
    order("quarantine", "site 3")
    first.play()
    report = json.loads(journal.read_text())
    del report["bars"]
    first.strategy._rounds._ledger._journal.close()
    journal.write_text(json.dumps(report) + "\n")
    orders_beside(journal).unlink()
    assert order("quarantine", "site 4") == "barred: site 3, site 4\n"


def test_a_file_that_cannot_be_written_stays_as_it_was(journal, order, monkeypatch):
    order("quarantine", "a")

    def fail(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    assert "cannot be written: No space left on device" in order("quarantine", "b")
    assert read_orders(orders_beside(journal)).barred == {"a"}
    assert set(journal.parent.iterdir()) == {journal, orders_beside(journal)}


def test_the_run_may_read_what_another_user_ordered(journal, order):
    before = os.umask(0o077)
    try:
        order("quarantine", "a")
    finally:
        os.umask(before)
    assert orders_beside(journal).stat().st_mode & 0o777 == 0o644


def test_two_orders_at_once_do_not_lose_one(journal, order):
    path = orders_beside(journal)
    with Lock(Path(f"{path}.lock"), str(path)):
        assert "is being written by process" in order("quarantine", "a")


@pytest.mark.parametrize("what", [("list",), ("quarantine", "a"), ("release", "a")])
def test_a_journal_that_is_not_there_is_named_and_nothing_is_written(tmp_path, capsys, what):
    for missing in (tmp_path / "jurnal.jsonl", tmp_path / "no" / "j"):
        command, *nodes = what
        assert main([command, "--journal", str(missing), *nodes]) == 2
        said = f"OrderError: {missing} does not exist, expected the journal of a run"
        assert capsys.readouterr().err.startswith(said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", " ", "\t", "site 3 ", " site 3", "site 3\n"])
def test_a_name_that_is_blank_or_has_blanks_around_is_refused(journal, order, name):
    for command in ("quarantine", "release"):
        said = order(command, "a", name)
        assert (
            said == f"OrderError: {name!r}: expected the name of a node, without blanks around it\n"
        )
    assert not orders_beside(journal).exists()


def test_a_node_whose_name_has_blanks_around_can_be_barred(journal, order):
    journal.write_text(json.dumps(RoundReport(1, "r", 0, silent=(" a",)).to_json()) + "\n")
    order("quarantine", " a")
    assert read_orders(orders_beside(journal)).barred == {" a"}


def test_a_name_that_is_no_text_is_said_so_that_it_can_be_printed(order):
    assert order("quarantine", "\udcff").startswith("barred: \\udcff\n")


def test_a_node_that_nobody_knows_cannot_be_released(run, order):
    run.play()
    said = order("release", "site 33")
    assert said.startswith("OrderError: site 33: neither barred nor named by any round; known are")
    assert "site 8" in said


# --- the list ---


def test_the_list_names_every_node_with_its_state_and_what_became_of_it(run, order):
    run.play(bad=[8])
    order("quarantine", "site 3", "site 10")
    run.play()
    rows = [line.split("  ") for line in order("list").splitlines()]
    table = {row[0]: [text.strip() for text in row[1:] if text.strip()] for row in rows}
    assert len(table) == 1 + 9 + 1
    assert table["site 3"] == ["barred", "0", "1", "0", "0", "0"]
    assert table["site 10"] == ["barred", "0", "0", "0", "0", "0"]
    assert table["site 8"][:6] == ["in quarantine", "0", "0", "1", "0", "0"]
    assert table["site 8"][6].startswith("round 1: ")
    assert table["site 0"] == ["asked", "2", "0", "0", "0", "0"]
    assert table["site 1"] == ["asked", "0", "2", "0", "0", "0"]


def test_a_reason_that_a_client_made_up_stays_on_its_line(journal, order):
    report = RoundReport(1, "r", 0, failed={"a\nb": "x\x1b[2J\n" * 50})
    journal.write_text(json.dumps(report.to_json()) + "\n")
    lines = order("list").splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 200 for line in lines)


def test_a_list_of_nobody_is_its_heading(order):
    assert order("list").split()[:2] == ["node", "state"]
