"""Promises are judged, tables and the page show what was measured."""

from dataclasses import replace

import pytest

from benchmarks.bars import bars
from benchmarks.page import BEGIN, END, block, replaced, write
from benchmarks.peers import LEGACY, NUMBA, NUMPY
from benchmarks.plot import picture
from benchmarks.results import Report
from benchmarks.tables import Table, milliseconds, tables


def verdicts(report, start):
    return {b.path: b.verdict for b in bars(report) if b.promise.startswith(start)}


def test_a_ratio_is_held_against_its_bound(report):
    # Promised: 3 and 10 times; measured: 10 and 5.
    report.results[1] = replace(report.results[1], cpu=(0.02,))
    found = verdicts(report, "krum, n = 20, d = 1e6: times Flower legacy")
    assert found == {NUMPY: "pass", NUMBA: "FAIL"}


def test_what_was_not_measured_is_neither_held_nor_broken(report):
    assert verdicts(report, "krum, n = 100, d = 1e6: times krum") == {
        NUMPY: "not measured",
        NUMBA: "not measured",
    }


def test_memory_counts_beside_the_result(report):
    # 35 and 40 MB, 4 of them the result; 32 are promised.
    assert verdicts(report, "extra memory") == {NUMPY: "pass", NUMBA: "FAIL"}


@pytest.mark.parametrize(("times", "verdict"), [(4.9, "pass"), (5.1, "FAIL")])
def test_an_average_may_take_five_times_as_long_as_one_in_float32(report, times, verdict):
    ours, _, theirs = report.results[:3]
    report.results[:] = [
        replace(ours, task="average", cpu=(times * 0.01,)),
        replace(theirs, task="average", cpu=(0.01,)),
    ]
    assert verdicts(report, "the average")[NUMPY] == verdict
    assert verdicts(report, "Krum: never slower")[NUMPY] == "not measured"


def test_an_exponent_is_held_against_its_bound(report):
    assert verdicts(report, "exponent of d") == {NUMPY: "pass", NUMBA: "not measured"}


def test_one_cell_in_which_we_are_slower_breaks_the_promise(report):
    assert verdicts(report, "Krum: never slower") == {NUMPY: "pass", NUMBA: "pass"}
    fast = report.results[2]
    report.results[2] = type(fast)(**{**vars(fast), "cpu": (0.008,)})
    found = [b for b in bars(report) if b.promise.startswith("Krum: never slower")]
    assert [b.verdict for b in found] == ["FAIL", "pass"]
    assert "Flower legacy, krum, n = 20, d = 1e6" in found[0].measured


def test_below_a_millisecond_nobody_is_compared(report):
    for i, seconds in ((0, 0.0009), (1, 0.0009), (2, 0.0001)):
        one = report.results[i]
        report.results[i] = type(one)(**{**vars(one), "cpu": (seconds,)})
    assert verdicts(report, "Krum: never slower") == {NUMPY: "not measured", NUMBA: "not measured"}


def test_milliseconds_name_what_was_skipped_and_who_chose_otherwise(report):
    table = milliseconds(report, "krum")
    assert table.columns == ("n", "d", "floor", NUMPY, NUMBA, LEGACY)
    assert table.rows[0] == ("20", "1e6", "4.00", "10.0", "6.65", "100")
    assert table.rows[1] == ("500", "1e6", "-", "4000", "-", "skipped: projected 315 s")
    assert table.note == "Another result than ours: Flower legacy at n = 20, d = 1e6."


def test_a_table_is_the_same_in_markdown():
    text = Table("A title", ("n", "ms"), (("10", "2.50"),), "A note.").markdown()
    assert text == "### A title\n\n| n | ms |\n| --- | ---: |\n| 10 | 2.50 |\n\nA note.\n"


def test_every_table_can_be_printed(report):
    shown = list(tables(report))
    assert len({table.title for table in shown}) == len(shown) >= 5
    for table in shown:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert table.rich().row_count == len(table.rows)


def test_the_page_changes_between_its_markers_only():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(page, "new") == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert replaced(replaced(page, "new"), "new") == replaced(page, "new")


@pytest.mark.parametrize("page", ["none", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_alone(page, report, tmp_path):
    file = tmp_path / "page.md"
    file.write_text(page)
    with pytest.raises(ValueError, match="once each"):
        write(report, file, "picture.png")
    assert file.read_text() == page


def test_the_block_names_machine_absentees_and_picture(report):
    made = block(report, "images/performance.png")
    assert "- processor: an abacus" in made
    assert "- byzpy: not installed" in made
    assert "(images/performance.png)" in made


def test_a_report_survives_its_file(report, tmp_path):
    file = tmp_path / "folder" / "report.json"
    report.save(file)
    assert Report.load(file) == report


def test_a_picture_is_drawn_of_whatever_was_measured(report, tmp_path):
    picture(report, tmp_path / "images" / "plot.png")
    assert (tmp_path / "images" / "plot.png").read_bytes().startswith(b"\x89PNG")
