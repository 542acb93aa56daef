"""A rule of a user's own, in a file outside the package."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from flwr_krum.journal import read_journal
from flwr_krum.rules.written import parse_rule
from simulations.cli import app
from simulations.report import write_report
from simulations.run.history import read_history
from tests.documents import block

MY_RULES = '''"""A rule and a mixing of our own."""

from dataclasses import dataclass

import numpy as np

from flwr_krum.rules import Choice, Geometry, Mixing, Rule


@dataclass(frozen=True)
class Smallest(Rule):
    """Return the mean of the ``keep`` smallest updates; by default of n - f."""

    keep: int | None = None

    requirement = "f < n"

    def least(self, f: int) -> int:
        """Return ``f + 1``."""
        return f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Weigh the smallest alike."""
        count = self.keep or geometry.n - self.liars(geometry.n)
        order = np.argsort(geometry.norms, kind="stable")
        return Choice.uniform(geometry.n, order[:count].tolist())


@dataclass(frozen=True)
class Halve(Mixing):
    """Halve every update."""

    def matrix(self, geometry: Geometry, server_round: int) -> np.ndarray:
        """Leave the other half on the global model."""
        return np.eye(geometry.n) / 2
'''


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call `run` beside a file of one's own, and return its result."""
    monkeypatch.chdir(tmp_path)

    def call(rule, *arguments, text=MY_RULES):
        (tmp_path / "my_rules.py").write_text(text)
        options = ("--rule", rule, "--rounds", "3", "--run-dir", "mine", *arguments)
        return CliRunner().invoke(app, ["run", *options])

    yield call
    sys.modules.pop(str(tmp_path / "my_rules.py"), None)


def test_it_runs_by_the_path_of_its_file(run, tmp_path):
    assert len(MY_RULES.splitlines()) <= 40
    attack = ("--attack", "gaussian", "-n", "7", "-f", "2")
    result = run("my_rules.py:Smallest(keep=3)", *attack)
    assert result.exit_code == 0, result.output
    assert "rounds with a Byzantine client selected: 0 of 3" in result.output
    assert [len(record.selected) for record in read_history(tmp_path / "mine")] == [0, 3, 3, 3]
    config = json.loads((tmp_path / "mine/config.json").read_text())
    assert config["rule"] == f"{tmp_path}/my_rules.py:Smallest(keep=3)"
    (first, *_) = read_journal(tmp_path / "mine/journal.jsonl")
    assert first.rule == "Smallest(f=2, strict=True, keep=3)"

    # Its report needs no file; a run that goes on does, from wherever it is started.
    again = run("my_rules.py:Smallest(keep=3)", *attack, "--rounds", "5", "--resume")
    assert again.exit_code == 0, again.output
    assert [record.round for record in read_history(tmp_path / "mine")] == [0, 1, 2, 3, 4, 5]
    (tmp_path / "my_rules.py").unlink()
    del sys.modules[f"{tmp_path}/my_rules.py"]
    write_report([tmp_path / "mine"], tmp_path / "page.html")
    assert "Smallest(keep=3)" in (tmp_path / "page.html").read_text()


def test_that_of_the_page_runs_alone_and_behind_a_mixing(run):
    text = block("docs/own-parts.md", "(Rule):")
    for rule in ("my_rules.py:InnerMean", "nnm | my_rules.py:InnerMean"):
        result = run(rule, "-f", "6", text=text)
        assert result.exit_code == 0, result.output
    assert run("my_rules.py:InnerMean", "-f", "7", text=text).exit_code == 2


def test_it_stands_behind_mixings_and_before_none(run):
    result = run("my_rules.py:Smallest | krum")
    assert result.exit_code == 2
    assert "what stands before a | is a mixing" in " ".join(result.output.split())
    values = np.array([[8.0], [2.0], [4.0]])
    chain = parse_rule("my_rules.py:Halve | my_rules.py:Smallest", f=1)
    assert chain(values).vector.tolist() == [1.5]
    assert parse_rule("my_rules.py:Halve | median", f=1)(values).vector.tolist() == [2.0]


def test_it_is_the_rule_of_both_apis_strategies(run, tmp_path):
    models = []
    for api in ("message", "fit"):
        options = ("--engine", "inprocess", "--api", api, "-f", "2")
        result = run("my_rules.py:Halve | my_rules.py:Smallest", *options)
        assert result.exit_code == 0, result.output
        models.append((tmp_path / "mine/model.npz").read_bytes())
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("rule", "text", "message"),
    [
        ("nowhere/my_rules.py:Smallest", MY_RULES, "there is no file "),
        ("my_rules.py:Smalest", MY_RULES, "has no 'Smalest'; did you mean Smallest?"),
        ("my_rules.py:np", MY_RULES, "my_rules.py:np is no subclass of flwr_krum.rules.Rule"),
        ("my_rules.py:Choice", MY_RULES, "my_rules.py:Choice is no subclass of flwr_krum.rules.R"),
        ("my_rules.py:Halve", MY_RULES, "my_rules.py:Halve is no subclass of flwr_krum.rules.Rule"),
        ("my_rules.py:Smallest(kept=1)", MY_RULES, "it takes f=None, keep=None, strict=True"),
        ("my_rules.py:Smallest(f=20)", MY_RULES, "Smallest needs f < n, got n=20, f=20"),
        ("my_rules.py:Smallest", "1 / 0", "cannot be imported: ZeroDivisionError"),
        ("my_rules.py:Smallest", "class Smallest(Rule): pass", "cannot be imported: NameError"),
        ("my_rules.py:Smallest", "def Smallest(:", "cannot be imported: SyntaxError"),
        (
            "my_rules.py:Smallest",
            "from flwr_krum.rules import Rule\nclass Smallest(Rule): pass",
            "Can't instantiate abstract class Smallest",
        ),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_sentence(run, rule, text, message):
    result = run(rule, text=text)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert result.output.startswith("ValueError: --rule is ") or "needs f < n" in message
    assert "Traceback" not in result.output
