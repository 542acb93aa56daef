import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo

from clients.client_app import build_client_app
from clients.learning.models import build_model, load_parameters, parameters_of
from clients.learning.steps import replica
from clients.tasks import load_task
from flwr_krum.journal import read_journal
from flwr_krum.optimizers import parse_optimizer
from simulations import server_app
from simulations.engines.engines import run
from simulations.engines.inprocess import FIRST_NODE_ID, InProcessGrid
from simulations.run import history
from simulations.run.history import HistoryWriter, read_history, read_model


def model_of(config):
    return read_model(Path(config.run_dir))[1]


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
    initial = parameters_of(build_model("spambase", "mlp", 0))
    for key, start in initial.items():
        np.testing.assert_allclose(
            models[0.5][key] - start, (models[1.0][key] - start) / 2, atol=1e-7
        )


@pytest.mark.parametrize("optimizer", ["fedavgm(eta=0.3)", "fedadagrad", "fedadam", "fedyogi"])
def test_both_apis_give_the_same_model_under_an_optimizer(config, tmp_path, optimizer):
    models = []
    for api in ("message", "fit"):
        made = config(api=api, server_optimizer=optimizer, run_dir=str(tmp_path / api))
        run(made)
        models.append({key: array.tobytes() for key, array in model_of(made).items()})
        reports = read_journal(tmp_path / api / "journal.jsonl")
        assert {report.optimizer for report in reports} == {str(parse_optimizer(optimizer))}
    assert models[0] == models[1]


def test_an_optimizer_moves_the_model_by_the_papers_first_step(config, tmp_path):
    models = {}
    for optimizer in ("", "fedadam(eta=0.01)"):
        made = config(
            num_server_rounds=1, server_optimizer=optimizer, run_dir=str(tmp_path / f"o{optimizer}")
        )
        run(made)
        models[optimizer] = model_of(made)
    for key, start in parameters_of(build_model("spambase", "mlp", 0)).items():
        d = models[""][key].astype(np.float64) - start
        step = 0.01 * 0.1 * d / (np.sqrt(0.99 * 1e-6 + 0.01 * d**2) + 1e-3)
        np.testing.assert_allclose(models["fedadam(eta=0.01)"][key], start + step, rtol=1e-6)


def test_a_federation_of_another_size_than_the_run_is_a_clear_error(config, monkeypatch):
    monkeypatch.setattr(server_app, "NODES_TIMEOUT", 0.0)
    run_config = config().to_config()
    grid = InProcessGrid(build_client_app(run_config), 7)
    message = r"7 nodes are connected and 0 of them have a name, but num-clients is 20 .*num-part"
    with pytest.raises(RuntimeError, match=message):
        server_app.build_server_app(run_config)(grid, context())


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_node_that_claims_anothers_partition_ends_nothing_and_is_called_by_its_id(config, api):
    made = config(num_clients=5, api=api)
    honest = build_client_app(made.to_config())
    app = ClientApp()

    @app.train()
    def train(message, context):
        return honest(message, context)

    @app.query()
    def query(message, context):
        claim = MetricRecord({"partition-id": min(3, context.node_config["partition-id"])})
        return Message(RecordDict({"node": claim}), reply_to=message)

    server_app.build_server_app(made.to_config())(InProcessGrid(app, 5), context())
    for report in read_journal(Path(made.run_dir, "journal.jsonl")):
        assert report.received == (0, 1, 2, "node 5", "node 6")
        assert report.stepped


class _Federation(InProcessGrid):
    """Partition 6 hangs in round 2; nobody but 0 and 1 is connected from round 3 on."""

    round = 0

    def push_messages(self, messages):
        messages = list(messages)
        if messages[0].metadata.message_type == "train":
            content = messages[0].content.config_records
            self.round = next(
                int(record["server-round" if "server-round" in record else "server_round"])
                for record in content.values()
                if {"server-round", "server_round"} & set(record)
            )
        return super().push_messages(messages)

    def pull_messages(self, message_ids):
        replies = list(super().pull_messages(message_ids))
        hangs = FIRST_NODE_ID + 6 if self.round == 2 else None
        return [reply for reply in replies if reply.metadata.src_node_id != hangs]

    def get_node_ids(self):
        nodes = list(super().get_node_ids())
        return nodes if self.round < 2 else nodes[:2]


@pytest.mark.parametrize("api", ["message", "fit"])
def test_no_round_waits_for_ever(config, api):
    made = config(num_clients=7, f=1, api=api, num_server_rounds=4, round_timeout=0.5)
    run_config = made.to_config()
    start = time.monotonic()
    grid = _Federation(build_client_app(run_config), 7)
    server_app.build_server_app(run_config)(grid, context())
    assert time.monotonic() - start < 20.0
    first, second, third, fourth = read_journal(Path(made.run_dir, "journal.jsonl"))
    assert first.received == tuple(range(7))
    assert second.received == tuple(range(6))
    assert second.silent == (6,)
    assert second.stepped
    for report in (third, fourth):
        assert report.received == (0, 1)
        assert not report.stepped
        assert "needs 2f + 2 < n, got n=2, f=1" in report.note


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_round_waits_for_nodes_that_come_back(config, api):
    made = config(num_clients=5, api=api, round_timeout=30)

    class Leaving(InProcessGrid):
        """All nodes leave when they have answered, and are back half a second later."""

        back = 0.0

        def pull_messages(self, message_ids):
            self.back = time.monotonic() + 0.5
            return super().pull_messages(message_ids)

        def get_node_ids(self):
            return list(super().get_node_ids()) if time.monotonic() > self.back else []

        def get_nodes(self):
            return [NodeInfo(node_id=node) for node in super().get_node_ids()]

    run_config = made.to_config()
    server_app.build_server_app(run_config)(Leaving(build_client_app(run_config), 5), context())
    reports = read_journal(Path(made.run_dir, "journal.jsonl"))
    assert [report.received for report in reports] == [tuple(range(5))] * 3


@pytest.mark.parametrize("api", ["message", "fit"])
def test_rounds_for_which_nobody_is_connected_are_skipped(config, api, monkeypatch):
    made = config(num_clients=5, api=api, round_timeout=0.2)
    monkeypatch.setattr(server_app, "name_nodes", lambda _: ({i: i for i in range(5)}, []))
    monkeypatch.setattr(server_app, "NODES_TIMEOUT", 0.0)
    monkeypatch.setattr(InProcessGrid, "get_node_ids", lambda _: [])
    run(made)
    history = read_history(Path(made.run_dir))
    assert [record.round for record in history] == [0, 1, 2, 3]
    assert not any(record.stepped for record in history)


@pytest.mark.parametrize("api", ["message", "fit"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_that_stops_and_goes_on_equals_one_that_never_stopped(config, tmp_path, api, stop):
    # 1-p Krum draws in every round, and the attackers too: only (seed, round) may decide.
    options = {"rule": "1-p-krum", "f": 6, "attack": "gaussian", "api": api}
    whole = config(num_server_rounds=6, run_dir=str(tmp_path / "whole"), **options)
    run(whole)
    parts = {"run_dir": str(tmp_path / "parts"), **options}
    run(config(num_server_rounds=stop, **parts))
    run(config(num_server_rounds=6, resume=True, **parts))
    whole_dir, parts_dir = tmp_path / "whole", tmp_path / "parts"
    assert (whole_dir / "model.npz").read_bytes() == (parts_dir / "model.npz").read_bytes()
    drop = lambda records: [(r.round, r.selected, r.byzantine_selected) for r in records]  # noqa: E731
    assert drop(read_history(whole_dir)) == drop(read_history(parts_dir))
    journals = [read_journal(folder / "journal.jsonl") for folder in (whole_dir, parts_dir)]
    assert [r.server_round for r in journals[1]] == [1, 2, 3, 4, 5, 6]
    assert [replace(r, seconds={}) for r in journals[0]] == [
        replace(r, seconds={}) for r in journals[1]
    ]


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_rule_that_asks_for_it_has_the_servers_own_model_also_in_a_run_that_goes_on(
    config, tmp_path, api
):
    options = {"f": 12, "attack": "gaussian", "batch_size": 32, "learning_rate": 0.5, "api": api}
    whole = config(rule="fltrust", num_server_rounds=12, run_dir=str(tmp_path / "whole"), **options)
    run(whole)
    parts = {"rule": "fltrust", "run_dir": str(tmp_path / "parts"), **options}
    run(config(num_server_rounds=5, **parts))
    run(config(num_server_rounds=12, resume=True, **parts))
    models = [(tmp_path / name / "model.npz").read_bytes() for name in ("whole", "parts")]
    assert models[0] == models[1]
    # Twelve of twenty lie, and the server's shard still says which way is down.
    assert read_history(tmp_path / "whole")[-1].accuracy > 0.8


def test_a_run_killed_between_journal_and_model_repeats_that_round(config, tmp_path):
    options = {"rule": "1-p-krum", "f": 6, "attack": "gaussian"}
    whole = config(num_server_rounds=4, run_dir=str(tmp_path / "whole"), **options)
    run(whole)
    broken = {"run_dir": str(tmp_path / "broken"), **options}

    class Killed(BaseException):
        """Not an Exception: nothing may catch it on the way out."""

    def dies_after_aggregation(self, record, *arrays):
        if record.round == 3:
            raise Killed
        original(self, record, *arrays)

    original = HistoryWriter.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HistoryWriter, "append", dies_after_aggregation)
        with pytest.raises(Killed):
            run(config(num_server_rounds=4, **broken))
    journal = tmp_path / "broken/journal.jsonl"
    assert [r.server_round for r in read_journal(journal)] == [1, 2, 3]
    run(config(num_server_rounds=4, resume=True, **broken))
    assert [r.server_round for r in read_journal(journal)] == [1, 2, 3, 4]
    assert model_of(whole).keys() == model_of(config(**broken)).keys()
    for key, array in model_of(whole).items():
        np.testing.assert_array_equal(array, model_of(config(**broken))[key])


@pytest.mark.parametrize("save_every", [0.0, 1000.0])
def test_a_run_that_is_killed_goes_on_to_the_same_end(config, tmp_path, monkeypatch, save_every):
    # Killed, it saves nothing on the way out: what lies there is the model of round 4, or of the
    # beginning, beside a journal and a history of four rounds.
    monkeypatch.setattr(history, "SAVE_EVERY", save_every)
    options = {"rule": "1-p-krum", "f": 6, "attack": "gaussian", "num_server_rounds": 6}
    whole = config(run_dir=str(tmp_path / "whole"), **options)
    run(whole)
    killed = {"run_dir": str(tmp_path / "killed"), **options}

    class Killed(BaseException):
        """Not an Exception: nothing may catch it on the way out."""

    def dies(record):
        if record.round == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(HistoryWriter, "__exit__", lambda self, *_: None)
        with pytest.raises(Killed):
            run(config(**killed), observer=dies)
    assert read_model(tmp_path / "killed")[0] == (4 if save_every == 0.0 else 0)
    assert len(read_journal(tmp_path / "killed/journal.jsonl")) == 4
    run(config(resume=True, **killed))
    for file in ("model.npz", "history.jsonl"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    rounds = [report.server_round for report in read_journal(tmp_path / "killed/journal.jsonl")]
    assert rounds == [1, 2, 3, 4, 5, 6]


def test_going_on_with_another_configuration_is_refused_by_name(config):
    run(config(rule="krum"))
    with pytest.raises(ValueError, match="rule was 'krum' and is 'medoid'"):
        run(config(rule="medoid", num_server_rounds=9, resume=True))


def test_going_on_with_a_finished_run_is_refused(config):
    run(config())
    with pytest.raises(ValueError, match="holds 3 rounds, num-server-rounds is 3"):
        run(config(resume=True))


@pytest.mark.parametrize(("momentum", "lost"), [(0.0, False), (0.9, True)])
def test_going_on_where_clients_remembered_says_that_they_begin_anew(
    config, caplog, monkeypatch, momentum, lost
):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    run(config(momentum=momentum))
    run(config(momentum=momentum, num_server_rounds=4, resume=True))
    assert ("what clients remembered of 3 rounds is gone, they begin anew" in caplog.text) is lost


@pytest.mark.parametrize(("attack", "boost"), [("backdoor(size=2, target=1)", 1), ("none", 0)])
def test_a_backdoors_success_is_measured_where_the_model_is(config, attack, boost):
    made = config(attack=attack, f=1, evaluate_every=2)
    run(made)
    history = read_history(Path(made.run_dir))
    rates = [record.attack_success for record in history]
    assert [rate is not None for rate in rates] == [boost and r.loss is not None for r in history]
    if boost:
        task, model = load_task(made.settings), replica(made.settings)
        load_parameters(model, list(read_model(Path(made.run_dir))[1].values()))
        marked = task.test_x.clone()
        marked[:, -2:] = task.test_x.max()
        with torch.inference_mode():
            taken = model(marked).argmax(dim=1)
        of_others = task.test_y != 1
        assert rates[-1] == pytest.approx((taken[of_others] == 1).float().mean().item())


def test_resume_without_an_earlier_run_starts_one(config):
    made = config(resume=True)
    run(made)
    assert [record.round for record in read_history(Path(made.run_dir))] == [0, 1, 2, 3]


def test_a_new_run_replaces_the_journal_of_the_old_one(config):
    for _ in range(2):
        run(config())
    assert len(read_journal(Path(config().run_dir, "journal.jsonl"))) == 3


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_client_in_quarantine_is_not_asked_again(config, api):
    made = config(
        attack="malformed", f=1, num_clients=7, quarantine=2, num_server_rounds=4, api=api
    )
    run(made)
    journal = read_journal(Path(made.run_dir, "journal.jsonl"))
    assert [[r.client for r in report.refused] for report in journal] == [[6], [6], [], []]
    assert [report.quarantined for report in journal] == [(), (), (6,), (6,)]
    assert [len(report.received) for report in journal] == [6, 6, 6, 6]
    assert [report.silent for report in journal] == [(), (), (), ()]


@pytest.mark.parametrize("api", ["message", "fit"])
def test_the_superlinks_word_for_a_dead_node_is_an_entry_under_the_nodes_own_name(
    config, monkeypatch, api
):
    # A node that dies is answered for by the SuperLink, whose id is nobody's partition.
    made = config(api=api, f=2, num_clients=7)
    original = InProcessGrid._answer

    def one_dies(self, message):
        reply = original(self, message)
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 8:
            reply = Message(Error(0, "Node Unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    monkeypatch.setattr(InProcessGrid, "_answer", one_dies)
    # Six of seven with f = 2: 2f + 2 = 6, so the rounds are skipped, and the run ends in peace.
    run(made)
    journal = read_journal(Path(made.run_dir, "journal.jsonl"))
    assert [report.failed for report in journal] == [{6: "Node Unavailable"}] * 3
    assert [report.silent for report in journal] == [()] * 3
    assert not any(report.stepped for report in journal)
