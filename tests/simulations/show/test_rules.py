"""The table of the rules, in the terminal and in docs/rules.md."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from flwr_krum.rules import MIXINGS, RULES
from simulations.cli import app
from simulations.show.rules import PAGE, markdown_page

ROOT = Path(__file__).parents[3]


def command(*arguments):
    result = CliRunner().invoke(app, ["rules", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_in_the_repository_is_what_the_command_makes():
    assert (ROOT / PAGE).read_text() == markdown_page() == command("--markdown")


def test_the_command_writes_the_page(tmp_path, monkeypatch):
    (tmp_path / PAGE).parent.mkdir()
    monkeypatch.chdir(tmp_path)
    command("--write")
    assert (tmp_path / PAGE).read_text() == markdown_page()


def test_both_tables_have_a_row_for_every_rule_and_mixing():
    rows = [line.split(" | ") for line in markdown_page().splitlines() if line.startswith("| ")]
    names = [row[0].removeprefix("| ") for row in rows if row[0] not in ("| name", "| ---")]
    assert names == [*RULES, *MIXINGS]
    assert {len(row) for row in rows} == {7}
    terminal = command()
    assert all(name[:8] in terminal for name in names)
    assert "checked)" in terminal


def test_the_page_says_of_multi_krum_what_its_class_does():
    (row,) = (line for line in markdown_page().splitlines() if line.startswith("| multi-krum"))
    assert "| 2f + 2 < n |" in row
    assert "| 1/2 |" in row
    assert row.endswith("| P T S R N |")
