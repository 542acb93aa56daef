from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.client_app import build_client_app
from simulations import server_app
from simulations.engines import run
from simulations.history import read_history
from simulations.inprocess import InProcessGrid


def model_of(config):
    with np.load(f"{config.run_dir}/model.npz") as arrays:
        return {key: arrays[key] for key in arrays}


def context():
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})


@pytest.mark.parametrize("rule", ["average", "krum", "multi-krum", "medoid", "1-p-krum"])
def test_both_apis_give_the_same_model_bytes_and_the_same_history(config, tmp_path, rule):
    results = []
    for api in ("message", "fit"):
        options = {"rule": rule, "f": 6, "attack": "gaussian", "num_server_rounds": 5}
        made = config(api=api, run_dir=str(tmp_path / api), **options)
        run(made)
        results.append((tmp_path / api / "model.npz").read_bytes())
        results.append(read_history(tmp_path / api))
    assert results[0] == results[2]
    assert results[1] == results[3]


def test_the_same_seed_repeats_a_run_and_another_does_not(config):
    bytes_ = []
    for seed in (0, 0, 1):
        made = config(seed=seed)
        run(made)
        bytes_.append(Path(made.run_dir, "model.npz").read_bytes())
    assert bytes_[0] == bytes_[1] != bytes_[2]


def test_the_history_names_partitions_and_counts_the_attackers_selected(config):
    made = config(rule="average", f=3, attack="gaussian", num_clients=10)
    run(made)
    history = read_history(Path(made.run_dir))
    assert [record.round for record in history] == [0, 1, 2, 3]
    assert history[0].selected == ()
    assert history[1].selected == tuple(range(10))
    assert history[1].byzantine_selected == 3
    assert all(record.stepped for record in history[1:])


def test_evaluation_happens_every_k_rounds_and_in_the_last(config):
    made = config(evaluate_every=2, num_server_rounds=5)
    run(made)
    history = read_history(Path(made.run_dir))
    assert [r.round for r in history if r.accuracy is not None] == [0, 2, 4, 5]


def test_the_observer_sees_every_round(config):
    seen = []
    run(config(), observer=seen.append)
    assert [record.round for record in seen] == [0, 1, 2, 3]


def test_a_server_learning_rate_scales_the_step(config, tmp_path):
    models = {}
    for rate in (1.0, 0.5):
        made = config(
            server_learning_rate=rate, num_server_rounds=1, run_dir=str(tmp_path / str(rate))
        )
        run(made)
        models[rate] = model_of(made)
    initial = server_app.parameters_of(server_app.build_model("spambase", "mlp", 0))
    for key, start in initial.items():
        np.testing.assert_allclose(
            models[0.5][key] - start, (models[1.0][key] - start) / 2, atol=1e-7
        )


def test_a_wrong_number_of_nodes_is_a_clear_error(config, monkeypatch):
    monkeypatch.setattr(server_app, "NODES_TIMEOUT", 0.0)
    run_config = config().to_config()
    grid = InProcessGrid(build_client_app(run_config), 7)
    with pytest.raises(RuntimeError, match=r"7 nodes are connected, but num-clients is 20"):
        server_app.build_server_app(run_config)(grid, context())


def test_two_nodes_with_the_same_partition_are_a_clear_error(config):
    run_config = config(num_clients=5).to_config()
    liar = ClientApp()

    @liar.query()
    def query(message, context):
        claim = MetricRecord({"partition-id": min(3, context.node_config["partition-id"])})
        return Message(RecordDict({"node": claim}), reply_to=message)

    with pytest.raises(
        RuntimeError, match=r"partitions \[0, 1, 2, 3, 3\], expected each of 0 to 4"
    ):
        server_app.build_server_app(run_config)(InProcessGrid(liar, 5), context())
