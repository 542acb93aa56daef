from pathlib import Path

import numpy as np
import pytest

from flwr_krum.journal import read_journal
from simulations.engines import run
from simulations.history import read_history, read_model


@pytest.mark.parametrize("api", ["message", "fit"])
@pytest.mark.parametrize("fault", ["nan", "wrong-size"])
@pytest.mark.parametrize("rule", ["krum", "multi-krum", "medoid", "1-p-krum"])
def test_six_malformed_of_twenty_lose_no_round(config, api, fault, rule):
    made = config(f=6, attack="malformed", fault=fault, rule=rule, api=api, num_server_rounds=5)
    run(made)
    folder = Path(made.run_dir)
    assert all(record.stepped for record in read_history(folder)[1:])
    for report in read_journal(folder / "journal.jsonl"):
        assert [refused.client for refused in report.refused] == [14, 15, 16, 17, 18, 19]
        assert report.byzantine == 0
        assert len(report.received) == 14
    _, model = read_model(folder)
    assert all(np.isfinite(array).all() for array in model.values())


def test_refused_clients_change_nothing_beside_the_same_run_without_them(config, tmp_path):
    # The honest fourteen are the same; f = 6 less six refusals is f = 0 of fourteen.
    hostile = config(f=6, attack="malformed", fault="garbage", run_dir=str(tmp_path / "hostile"))
    run(hostile)
    journal = read_journal(tmp_path / "hostile/journal.jsonl")
    assert all(len(report.selected) == 14 for report in journal)
