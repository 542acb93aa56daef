"""The table of the rules, in the terminal and in docs/rules.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flwr_krum.rules import MIXINGS, RULES
from flwr_krum.rules.written import parse_rule
from simulations.cli import app
from simulations.show.rules import PAGE, markdown_page, page_of

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
    said = command().splitlines()
    assert [line for line in said if line in names] == names
    assert said.count("  needs      2f + 2 < n".ljust(80)) == 3


def test_the_page_says_of_multi_krum_what_its_class_does():
    (row,) = (line for line in markdown_page().splitlines() if line.startswith("| multi-krum"))
    assert "| 2f + 2 < n |" in row
    assert "| 1/2 |" in row
    assert row.endswith("| P T S R N |")


@pytest.mark.parametrize("name", [*RULES, *MIXINGS])
def test_the_page_of_one_says_what_the_table_does_and_a_command_that_is_legal(name):
    page = page_of(name, "as the search found")
    facts = {**RULES, **MIXINGS}[name].facts
    assert page.startswith(f"# {name}\n\n")
    assert f"- **Coefficient**: {facts.kappa}\n" in page
    assert "- **Fails**: as the search found\n" in page
    (written,) = re.findall(r"--rule '(.*)'", page)
    assert parse_rule(written, f=1).least(1) >= 1


def test_the_page_of_krum_has_its_formula_and_its_arguments():
    page = page_of("krum", "")
    assert "s(i) = sum_{i -> j} ||V_i - V_j||^2" in page
    assert "f : int, optional" in page
    assert "Raises" not in page
    assert "Fails" not in page
