"""Whole federations beside clients that break the protocol: no round is lost to them."""

from pathlib import Path

import numpy as np
import pytest

from flwr_krum.journal import read_journal
from flwr_krum.rules import PAPER
from simulations.engines.engines import run
from simulations.run.history import read_history, read_model

ROUNDS = 4


def play(config, **options):
    """Run a federation of 20 clients of which 6 are hostile; return its journal and model."""
    learning = {"batch_size": 32, "learning_rate": 0.5}
    made = config(num_clients=20, f=6, num_server_rounds=ROUNDS, **learning, **options)
    run(made)
    folder = Path(made.run_dir)
    return read_journal(folder / "journal.jsonl"), read_model(folder)[1], read_history(folder)


@pytest.mark.parametrize("api", ["message", "fit"])
@pytest.mark.parametrize("rule", PAPER)
@pytest.mark.parametrize(("fault", "reason"), [("nan", "holds NaN"), ("wrong-size", "shape (")])
def test_six_malformed_clients_of_twenty_cost_no_round(config, api, rule, fault, reason):
    journal, model, history = play(config, api=api, rule=rule, attack="malformed", fault=fault)
    assert [report.server_round for report in journal] == list(range(1, ROUNDS + 1))
    for report in journal:
        assert report.stepped
        assert report.received == tuple(range(14))
        assert [refused.client for refused in report.refused] == list(range(14, 20))
        assert all(reason in refused.reason for refused in report.refused)
        # Fourteen replies bear five liars by Krum's bound, six by the medoid's; an average none.
        assert report.byzantine == {"average": 0, "medoid": 6}.get(rule, 5)
        assert report.note == ""
        assert set(report.selected) <= set(range(14))
    assert all(np.isfinite(array).all() for array in model.values())
    assert [record.stepped for record in history[1:]] == [True] * ROUNDS
    assert history[-1].loss < history[0].loss


@pytest.mark.parametrize("api", ["message", "fit"])
def test_malformed_clients_change_nothing_that_the_honest_would_not_do(config, tmp_path, api):
    # Fourteen honest clients beside six malformed ones: one shared model, whatever the fault.
    models = []
    for fault in ("nan", "wrong-size", "garbage"):
        options = {"attack": "malformed", "fault": fault, "run_dir": str(tmp_path / fault)}
        models.append(play(config, api=api, rule="multi-krum", **options)[1])
    for key, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][key])
        np.testing.assert_array_equal(array, models[2][key])


@pytest.mark.parametrize("api", ["message", "fit"])
def test_with_quarantine_malformed_clients_are_asked_no_more(config, api):
    journal, _, _ = play(config, api=api, attack="malformed", fault="nan", quarantine=2)
    # Of 20 clients 2f + 3 = 15 must stay: five of the six may be left out.
    assert [len(report.refused) for report in journal] == [6, 6, 1, 1]
    assert [len(report.quarantined) for report in journal] == [0, 0, 5, 5]
    assert all(report.stepped for report in journal)


@pytest.mark.parametrize("fault", ["nan", "garbage", "examples-1e15"])
def test_both_apis_come_to_the_same_model(config, tmp_path, fault):
    models = []
    for api in ("message", "fit"):
        options = {"attack": "malformed", "fault": fault, "run_dir": str(tmp_path / api)}
        models.append(play(config, api=api, rule="krum", **options)[1])
    for key, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][key])
