"""The page of the worst inputs, and the command that makes it."""

from __future__ import annotations

import numpy as np
from typer.testing import CliRunner

from simulations.cli import app
from simulations.studies.worst_kappa import Unbounded, Witness
from simulations.studies.worst_page import COLUMNS, PAGE, proven, row, with_records
from simulations.studies.worst_records import FOLDER, Record, keep

MEDIAN = Record("median", 20, 6, 100, {0: 1.8, 1: 1.7}, Witness(1.8, np.ones((20, 1)), "6 liars"))


def command(*arguments):
    result = CliRunner().invoke(app, ["worst-kappa", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_row_has_the_numbers_of_its_record_beside_floor_and_limit():
    said = dict(zip(COLUMNS, row(MEDIAN), strict=True))
    assert said["kappa"] == "1.8"
    assert said["by seed"] == "1.8, 1.7"
    assert (said["floor"], said["limit"]) == ("0.75", "1.5")
    assert said["proven"] == "not checked"


def test_a_row_of_an_unbounded_rule_names_the_family():
    record = Record("average", 20, 6, 0, {}, Unbounded("all liars at t", (9.0, 900.0, 9e4)))
    said = dict(zip(COLUMNS, row(record), strict=True))
    assert said["kappa"] == "unbounded"
    assert said["input"] == "all liars at t: kappa is 9, 900, 9e+04 at t = 10, 100, 1000"


def test_no_coefficient_is_called_proven_that_nobody_has_read():
    said = {text: proven(text) for text in ("krum", "multi-krum", "nnm | krum", "bulyan")}
    assert said == {**dict.fromkeys(said, "not checked"), "bulyan": "none known here"}


def test_a_block_says_who_was_brought_beyond_the_limit(tmp_path):
    within = Record("krum", 20, 6, 9, {0: 1.2}, Witness(1.2, np.ones((20, 1)), "x"))
    fewer = Record("bulyan", 20, 4, 9, {0: 1.2}, Witness(1.2, np.ones((20, 1)), "x"))
    chain = Record("nnm | krum", 20, 6, 9, {0: 9.0}, Witness(9.0, np.ones((20, 1)), "x"))
    at_it = Record("caf", 20, 6, 9, {0: 1.5}, Witness(1.5 + 4e-16, np.ones((20, 1)), "x"))
    keep([MEDIAN, within, fewer, chain, at_it], 20, 6, tmp_path)
    page = with_records("Mine.\n", tmp_path)
    assert page.startswith("Mine.\n")
    assert "- Brought beyond the limit: `median`, `nnm | krum`.\n" in page
    assert "- Not brought beyond it: `krum`, `caf`.\n" in page
    assert "- Without a bound: none.\n" in page
    assert "| nnm \\| krum | 6 | 9 |" in page
    assert "| bulyan | 4 | 1.2 | 1.2 | 9 | x | 0.333 | 1 |" in page


def test_the_command_prints_a_table_and_writes_page_and_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / PAGE).parent.mkdir()
    (tmp_path / PAGE).write_text("# A page\n")
    small = ("-n", "5", "-f", "1", "--budget", "100", "--seeds", "2", "--rule", "median; average")
    printed = command(*small, "--write")
    assert "median: 1\n" in printed
    assert "average: unbounded\n" in printed
    written = (tmp_path / PAGE).read_text()
    assert written.startswith("# A page\n")
    assert "| median | 1 | 1 | " in written
    assert with_records(written, tmp_path / FOLDER) == written
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["5-1.json"]


def test_a_rule_that_cannot_be_searched_is_an_error_in_a_sentence():
    result = CliRunner().invoke(app, ["worst-kappa", "--rule", "fltrust"])
    assert result.exit_code == 2
    assert "fltrust asks the server for" in result.output
