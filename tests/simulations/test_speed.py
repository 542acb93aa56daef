import pytest
from typer.testing import CliRunner

from simulations import speed as module
from simulations.cli import app
from simulations.speed import GRADIENTS, speeds


@pytest.fixture
def one_problem(monkeypatch):
    spam = {"f": 6, "attack": "gaussian", "evaluate-every": 5}
    monkeypatch.setattr(module, "_PROBLEMS", {"spam": spam})


def test_computing_the_clients_together_is_more_than_twice_as_fast(one_problem):
    # By processor time: four times, measured; the rest is left to a busy machine.
    found = {speed.engine: speed.by_processor for speed in speeds(["inprocess", "fast"], 25)}
    assert found["fast"] > 2 * found["inprocess"]
    assert found[GRADIENTS] > found["fast"]


def test_the_command_prints_a_row_for_each_engine_and_one_for_the_gradients(one_problem):
    result = CliRunner().invoke(app, ["speed", "--engine", "fast", "--rounds", "3"])
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if "spam" in line]
    assert [engine in row for engine, row in zip(("fast", GRADIENTS), rows, strict=True)] == [
        True,
        True,
    ]
