"""A laboratory of one's own parts: attack, rule, data, model and split from files elsewhere."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.run.history import read_history

PAGE = Path(__file__).parents[2] / "docs/own-parts.md"

RULE = """
from dataclasses import dataclass

from flwr_krum.rules import Choice, Rule, Window


@dataclass(frozen=True)
class InnerMean(Rule):
    requirement = "n >= 3f + 1"

    def least(self, f):
        return 3 * f + 1

    def choose(self, geometry, server_round):
        n, f = geometry.n, self.liars(geometry.n)
        return Choice.of_sorted(n, Window(f, n - f, n - 2 * f))
"""


def of_the_page(name):
    """Return the block of the page that defines a name."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    (found,) = [block for block in blocks if re.search(rf"^(class|def) {name}\b", block, re.M)]
    return found


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with all parts in a file, and a table of two classes that can be told apart."""
    monkeypatch.chdir(tmp_path)
    blocks = [of_the_page(name) for name in ("Halved", "Net", "halves")]
    (tmp_path / "mine.py").write_text("\n\n".join([RULE, *blocks]))
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = rng.normal(size=(300, 4)) + 3.0 * y[:, None]
    lines = [",".join([*map(str, row), str(label)]) for row, label in zip(x, y, strict=True)]
    (tmp_path / "data.csv").write_text("a,b,c,d,kind\n" + "\n".join(lines) + "\n")
    yield tmp_path
    sys.modules.pop(str(tmp_path / "mine.py"), None)


PARTS = {
    "task": "csv:data.csv",
    "model": "mine.py:Net(width=6)",
    "split": "mine.py:halves",
    "rule": "mine.py:InnerMean",
    "attack": "on-off(start=2) | mine.py:Halved(times=2)",
}


def command(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_all_parts_of_a_run_may_be_files_of_ones_own(elsewhere):
    options = [word for key, text in PARTS.items() for word in (f"--{key}", text)]
    result = command("run", *options, "-n", "7", "-f", "2", "--rounds", "60", "--run-dir", "made")
    assert result.exit_code == 0, result.output
    assert read_history(elsewhere / "made")[-1].accuracy > 0.9
    config = json.loads((elsewhere / "made/config.json").read_text())
    assert config["attack"] == f"on-off(start=2) | {elsewhere}/mine.py:Halved(times=2)"


def test_all_parts_of_a_figure_may_be_files_of_ones_own(elsewhere):
    settings = "\n".join(f'{key} = "{text}"' for key, text in PARTS.items() if key != "rule")
    (elsewhere / "my.toml").write_text(f"""
title = "Mine"
caption = "Two rules"
source = "ours"
y = "accuracy"
x = "round"
rounds = 10
seeds = 3

[windows]
E = [8, 10]

[settings]
num-clients = 7
f = 2
{settings}

[[curve]]
key = "mine"
label = "inner mean"
settings = {{ rule = "mine.py:InnerMean" }}

[[curve]]
key = "average"
label = "average"
settings = {{ rule = "average" }}

[[claim]]
id = "mine"
says = "It learns"
[[claim.check]]
of = "mine"
window = "E"
at_least = 0.01
""")
    result = command("figure", "my.toml", "--processes", "1", "--out", "made")
    assert result.exit_code == 0, result.output
    assert "mine holds: It learns" in result.output
    assert list((elsewhere / "made").rglob("*.png"))


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("attack", "mine.py:InnerMean", "mine.py:InnerMean is no subclass of flwr_krum.attacks"),
        ("attack", "mine.py:Halved(size=2)", "it takes times=1.0"),
        ("attack", "mine.py:Halvd", "has no 'Halvd'; did you mean Halved?"),
        ("attack", "gone.py:Halved", "there is no file"),
        ("rule", "mine.py:Halved", "mine.py:Halved is no subclass of flwr_krum.rules"),
        ("task", "csv:gone.csv", "gone.csv"),
        ("model", "mine.py:halves", "halves"),
    ],
)
def test_a_wrong_part_ends_with_one_sentence(elsewhere, part, text, said):
    options = [word for key, it in {**PARTS, part: text}.items() for word in (f"--{key}", it)]
    result = command("run", *options, "-n", "7", "-f", "2", "--rounds", "2")
    assert result.exit_code != 0
    assert said in result.output.replace("\n", "")
    assert "Traceback" not in result.output
