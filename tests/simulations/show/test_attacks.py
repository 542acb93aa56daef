"""The pages of the attacks, and their table in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flwr_krum.attacks import ATTACKS, WRAPPERS
from flwr_krum.attacks.written import parse_attack
from simulations.cli import app
from simulations.show.attacks import FOLDER, INDEX, pages

ROOT = Path(__file__).parents[3]


def command(*arguments):
    result = CliRunner().invoke(app, ["attacks", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_pages_in_the_repository_are_what_the_command_makes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("--write")
    made = {path.name: path.read_text() for path in (tmp_path / FOLDER).iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / FOLDER).iterdir()}
    assert made == kept == pages()


def test_every_attack_has_a_page_that_the_index_links_and_a_row_in_the_table():
    assert list(pages()) == [INDEX, *(f"{name}.md" for name in [*ATTACKS, *WRAPPERS])]
    terminal = command().splitlines()
    for name in [*ATTACKS, *WRAPPERS]:
        assert f"[`{name}`]({name}.md): " in pages()[INDEX]
        assert name in terminal


@pytest.mark.parametrize("name", [*ATTACKS, *WRAPPERS])
def test_the_command_on_an_attacks_page_can_be_run(name):
    (line,) = [line for line in pages()[f"{name}.md"].splitlines() if "--attack" in line]
    parse_attack(line.split("--attack ")[1].strip("'"))


def test_a_page_says_what_its_class_does():
    page = pages()["sign-flip.md"]
    assert "- **Sends**: `-scale u_i, or -scale mu`" in page
    assert "- **Must see**: its own honest update" in page
    assert "scale : float (default: 1)" in page
