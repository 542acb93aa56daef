"""docs/conformance.md speaks of everything that there is."""

from pathlib import Path

import pytest

from benchmarks.conformance.page import DEVIATES
from benchmarks.peers import THEIRS
from flwr_krum.rules import MIXINGS, RULES

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()


@pytest.mark.parametrize("name", [*RULES, *MIXINGS])
def test_the_page_has_a_table_for_every_rule_and_mixing(name):
    assert PAGE.count(f"\n### {name}\n") == 1


@pytest.mark.parametrize("name", THEIRS)
def test_the_page_has_every_library_that_is_measured(name):
    assert f"\n| {name} |" in PAGE or f"\n- {name}: " in PAGE


def test_whoever_deviates_has_a_line_that_says_why_or_that_nobody_knows():
    for section in PAGE.split("\n### ")[1:]:
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
        for row in rows:
            if row[-1] == f"{DEVIATES} |" and len(row) == 7:
                assert f"\n- {row[0].removeprefix('| ')}: " in section
