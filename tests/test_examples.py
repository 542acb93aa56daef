"""What the examples say comes true, in this process; one of them on Flower's own engine."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from flwr_krum.journal import read_journal
from simulations.engines.inprocess import InProcessGrid

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Import an example by name, as if it was run from its folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def federate(server_app, client_app, nodes):
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    server_app(InProcessGrid(client_app, nodes), context)


def errors(capsys):
    return [float(x) for x in re.findall(r"error.*?(\d+\.\d+)", capsys.readouterr().out)]


def test_the_message_api_learns_beside_two_liars_whom_an_average_would_follow(example, capsys):
    made = example("message_api")
    federate(made.server_app, made.client_app, 10)
    (error,) = errors(capsys)
    assert error < 0.2
    honest, lie = made.TRUTH, np.full(3, 1000.0)
    assert np.linalg.norm((8 * honest + 2 * lie) / 10 - honest) > 100


def test_aggregate_fit_learns_beside_one_that_breaks_and_one_that_lies(example, capsys):
    made = example("aggregate_fit")
    federate(made.server_app, made.client_app, 9)
    found = errors(capsys)
    assert len(found) == 7
    assert found[-1] < 0.15 < 1 < found[0]


def test_a_classifier_of_scikit_learn_reads_digits_although_two_clients_swap_labels(
    example, capsys
):
    made = example("scikit_learn")
    federate(made.server_app, made.client_app, 10)
    (accuracy,) = re.findall(r"accuracy: (\S+)", capsys.readouterr().out)
    assert float(accuracy) > 0.8


def test_the_body_is_learnt_and_the_heads_stay_where_they_are(example, capsys):
    made = example("shared_keys")
    federate(made.server_app, made.client_app, 7)
    text = capsys.readouterr().out
    assert float(re.search(r"body: (\S+)", text)[1]) < 0.1
    assert "head: [0.]" in text


def test_a_rule_of_ones_own_is_a_strategy_and_works_on_arrays(example, capsys):
    made = example("own_rule")
    federate(made.server_app, made.client_app, 10)
    assert errors(capsys)[0] < 0.2
    values = np.array([[1.0], [2.0], [3.0], [99.0]])
    assert made.AroundMedoid(f=1)(values).vector.tolist() == [2.0]


def test_a_table_of_ones_own_is_learnt_by_multi_krum(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = rng.normal(size=(300, 4)) + 3.0 * y[:, None]
    np.savetxt(
        "mine.csv", np.column_stack([x, y]), delimiter=",", header="a,b,c,d,kind", comments=""
    )
    learn = example("own_csv").learn
    assert learn("mine.csv", "multi-krum", "runs/mine") > 0.9


@pytest.mark.parametrize("attack", ["sign-flip(scale=10)", "gaussian(variance=200)"])
def test_a_mod_makes_two_nodes_of_ones_own_app_attack_in_vain(example, attack, capsys):
    made = example("red_team")
    federate(made.server_app, made.attacked(attack), 10)
    assert errors(capsys)[0] < 0.2


def test_a_server_that_crashed_goes_on_to_the_bytes_of_one_that_did_not(
    example, tmp_path, monkeypatch, capsys
):
    made = example("resume")
    kept = {}
    for name, starts in (("whole", [4]), ("parts", [2, 2])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for rounds in starts:
            monkeypatch.setattr(made, "ROUNDS", rounds)
            federate(made.server_app, made.client_app, 10)
        kept[name] = made.kept()
    rounds = re.findall(r"^rounds: (.*) in runs/resume$", capsys.readouterr().out, re.MULTILINE)
    assert rounds == ["[1, 2, 3, 4]", "[1, 2]", "[1, 2, 3, 4]"]
    assert kept["whole"][0] == kept["parts"][0] == 4
    assert kept["whole"][1].tobytes() == kept["parts"][1].tobytes()
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["runs"]
    journal = read_journal(tmp_path / "parts/runs/resume/journal.jsonl")
    assert all(sorted(report.received) == list(range(10)) for report in journal)


def test_every_example_is_short_and_listed():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.ipynb"):
        assert f"]({path.name})" in listed
    for path in EXAMPLES.glob("*.py"):
        assert f"]({path.name})" in listed
        assert len(path.read_text().splitlines()) < 90


@pytest.mark.slow
def test_an_example_runs_as_a_program_on_flowers_own_engine():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "message_api.py"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(re.search(r"error: (\S+)", done.stdout)[1]) < 0.2
    assert "selected: 7, " in done.stderr  # nodes by their partitions, also where they come late
    assert "client_id raises" not in done.stderr
