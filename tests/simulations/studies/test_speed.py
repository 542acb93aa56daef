import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.studies import speed as module
from simulations.studies.speed import GRADIENTS, speeds


@pytest.fixture
def one_problem(monkeypatch):
    spam = {"f": 6, "attack": "gaussian", "evaluate-every": 5}
    monkeypatch.setattr(module, "_PROBLEMS", {"spam": spam})


@pytest.mark.timed
def test_computing_the_clients_together_is_more_than_twice_as_fast(one_problem):
    # By processor time: four times, measured; the rest is left to a busy machine.
    found = {speed.engine: speed.by_processor for speed in speeds(["inprocess", "fast"], 25)}
    assert found["fast"] > 2 * found["inprocess"]
    assert found[GRADIENTS] > found["fast"]


def test_the_best_tenth_is_the_least_disturbed_part_of_all_rounds(one_problem, monkeypatch):
    # Twenty rounds of 1 s, one of which waits 10 s more.
    seconds = iter([float(t) + 10.0 * (t > 12) for t in range(100)])

    def run(config, engine, observer):
        for _ in range(config.num_server_rounds + 1):
            observer(None)

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(seconds))
    measured = module._measured("spam", {"num-server-rounds": 20 + module.WARM_UP}, "fast")
    assert measured.at_best == 1.0
    assert measured.by_clock == pytest.approx(20 / 30)


def test_the_command_prints_a_row_for_each_engine_and_one_for_the_gradients(one_problem):
    result = CliRunner().invoke(app, ["speed", "--engine", "fast", "--rounds", "3"])
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if "spam" in line]
    assert [engine in row for engine, row in zip(("fast", GRADIENTS), rows, strict=True)] == [
        True,
        True,
    ]
