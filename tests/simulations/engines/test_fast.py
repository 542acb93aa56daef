"""The fast engine beside the plain one, which is its reference."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import Settings, build_client, build_model, parameters_of
from clients.client_app import build_client_app, fit_content
from clients.cohort import Cohort
from flwr_krum.attacks import FAULTS, Malformed
from flwr_krum.boundary.records import to_record
from flwr_krum.journal import read_journal
from simulations.engines import fast
from simulations.engines.engines import quiet_flower, run
from simulations.engines.fast import CohortGrid
from simulations.engines.inprocess import FIRST_NODE_ID, InProcessGrid
from simulations.run.history import read_history, read_model

MODEL = parameters_of(build_model("spambase", "mlp", 0))
SPAM = {"task": "spambase", "num_clients": 9, "f": 2}
MNIST = {"task": "mnist", "num_clients": 7, "f": 2, "batch_size": 4, "omniscient_examples": 64}


def both(config, tmp_path, **options):
    """Run the same federation on both engines and return their models, journals and histories."""
    results = []
    for engine in ("inprocess", "fast"):
        made = config(run_dir=str(tmp_path / engine), evaluate_every=1, **options)
        with quiet_flower():
            run(made, engine)
        folder = Path(made.run_dir)
        journal = read_journal(folder / "journal.jsonl")
        results.append((read_model(folder)[1], journal, read_history(folder)))
    return results


@pytest.mark.parametrize(
    "attack",
    [
        *("none", "gaussian", "omniscient", "malformed"),  # attackers who see nobody
        "sign-flip(scale=3)",  # their own update
        "fang-trimmed-mean(known=partial)",  # those of all attackers
        "min-max",  # those of all honest clients
        "label-flip",  # other data
    ],
)
@pytest.mark.parametrize("problem", [SPAM, MNIST], ids=lambda problem: problem["task"])
def test_a_round_gives_the_plain_engines_model(config, tmp_path, problem, attack):
    plain, quick = both(config, tmp_path, attack=attack, num_server_rounds=1, **problem)
    for key, array in plain[0].items():
        np.testing.assert_allclose(quick[0][key], array, rtol=0, atol=1e-6)
    (was,), (is_,) = plain[1], quick[1]
    assert (is_.received, is_.refused, is_.failed, is_.doubted) == (
        was.received, was.refused, was.failed, was.doubted,
    )  # fmt: skip
    assert is_.selected == was.selected
    assert is_.metrics == pytest.approx(was.metrics, abs=1e-6)
    assert quick[2][1].loss == pytest.approx(plain[2][1].loss, abs=1e-6)


@pytest.mark.parametrize(
    ("problem", "rule"), [(SPAM, "multi-krum"), (SPAM, "average"), (MNIST, "multi-krum")]
)
@pytest.mark.parametrize("attack", ["none", "gaussian"])
def test_after_ten_rounds_the_engines_are_still_together(config, tmp_path, problem, rule, attack):
    plain, quick = both(config, tmp_path, attack=attack, rule=rule, num_server_rounds=10, **problem)
    for key, array in plain[0].items():
        np.testing.assert_allclose(quick[0][key], array, rtol=1e-5, atol=1e-5)
    assert [report.selected for report in quick[1]] == [report.selected for report in plain[1]]
    for was, is_ in zip(plain[2], quick[2], strict=True):
        assert is_.loss == pytest.approx(was.loss, rel=1e-4)


def test_through_aggregate_fit_both_engines_give_the_same_bytes(config, tmp_path):
    both(config, tmp_path, api="fit", attack="gaussian", **SPAM)
    assert (tmp_path / "fast/model.npz").read_bytes() == (
        tmp_path / "inprocess/model.npz"
    ).read_bytes()


@pytest.fixture
def grids():
    """A fast and a plain grid of the same five clients, the last of them of the given role."""

    def make(role="honest", **options):
        settings = Settings(num_clients=5, f=1, attack=role.replace("honest", "none"), **options)
        config = {"num-clients": 5, "f": 1, "attack": settings.attack, "fault": settings.fault}
        clients = [build_client(settings, i, "honest") for i in range(4)]
        cohort = Cohort([*clients, build_client(settings, 4, role)])
        app = build_client_app(config)
        return CohortGrid(app, cohort), InProcessGrid(app, 5)

    return make


def repr_of(metrics):
    """Metrics as text, the last bits of the loss aside."""
    return {key: f"{value:.5g}" if key == "loss" and isinstance(value, float) else repr(value)
            for key, value in metrics.items()}  # fmt: skip


def ask(grid, content, message_type="train", nodes=range(5)):
    messages = [Message(content, node + FIRST_NODE_ID, message_type) for node in nodes]
    return list(grid.send_and_receive(messages))


def content(server_round=1, model=MODEL):
    return RecordDict(
        {"arrays": to_record(model), "config": ConfigRecord({"server-round": server_round})}
    )


def test_a_reply_holds_the_bytes_that_the_client_app_would_send():
    metrics = {"num-examples": 7, "loss": 0.25}
    packed = {key: fast._packer(a.shape, a.dtype)(a) for key, a in MODEL.items()}
    ours = fast._content(packed, metrics)
    flowers = fit_content(MODEL, list(MODEL.values()), 7, {"loss": 0.25})
    assert ours.object_id == flowers.object_id
    assert repr(ours) == repr(flowers)


@pytest.mark.parametrize("role", ["honest", "gaussian"])
@pytest.mark.parametrize("server_round", [1, 2**31, 2**63 - 1])
def test_layers_are_taken_by_their_keys_and_answered_in_their_order(grids, role, server_round):
    backwards = dict(reversed(MODEL.items()))
    numbered = {str(i): array for i, array in enumerate(MODEL.values())}
    for grid in grids(role):
        usual, other, by_place = (
            [reply.content["arrays"] for reply in ask(grid, content(server_round, model))]
            for model in (MODEL, backwards, numbered)
        )
        for expected, found, placed in zip(usual, other, by_place, strict=True):
            assert list(found) == list(backwards)
            assert {key: found[key].data for key in MODEL} == {
                key: expected[key].data for key in MODEL
            }
            assert [array.data for array in placed.values()] == [
                array.data for array in expected.values()
            ]


def test_replies_say_who_answers_what(grids):
    for grid in grids():
        replies = ask(grid, content(), nodes=[3, 0, 2])
        assert [reply.metadata.src_node_id for reply in replies] == [5, 2, 4]
        assert [reply.metadata.dst_node_id for reply in replies] == [1] * 3
        assert {reply.metadata.message_type for reply in replies} == {"train"}


def test_replies_can_be_fetched_later_by_the_ids_of_their_messages(grids):
    for grid in grids():
        messages = [Message(content(), i + FIRST_NODE_ID, "train") for i in range(3)]
        shared = content()
        for message in messages:
            message.content = shared
        ids = list(grid.push_messages(messages))
        replies = list(grid.pull_messages(reversed(ids)))
        assert [reply.metadata.src_node_id for reply in replies] == [4, 3, 2]
        assert [reply.metadata.reply_to_message_id for reply in replies] == ids[::-1]
        assert len({*ids, *(reply.metadata.message_id for reply in replies)}) == 6
        assert list(grid.pull_messages(ids)) == []


def test_a_reply_is_addressed_as_flower_would_address_it(grids):
    grids()  # only within a run does Flower let messages be made
    message = Message(content(), 7, "train", group_id="3")
    message.metadata.__dict__["_message_id"] = "5"
    answer = RecordDict()
    ours, flowers = fast._answering(message, answer), Message(answer, reply_to=message)
    assert ours.content is answer
    assert not ours.has_error()
    timeless = [
        {k: v for k, v in vars(reply.metadata).items() if k not in ("_created_at", "_ttl")}
        for reply in (ours, flowers)
    ]
    assert timeless[0] == timeless[1]
    assert vars(ours).keys() == vars(flowers).keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_reply_is_as_malformed_as_the_plain_one(grids, fault):
    quick, plain = (ask(grid, content())[-1] for grid in grids("malformed", fault=fault))
    assert quick.has_error() == plain.has_error()
    assert list(quick.content) == list(plain.content)
    for key, record in plain.content.array_records.items():
        found = quick.content.array_records[key]
        shape = lambda record: [  # noqa: E731
            (k, a.dtype, a.shape, a.stype, len(a.data)) for k, a in record.items()
        ]
        assert shape(found) == shape(record)
    for key, record in plain.content.metric_records.items():
        assert repr_of(quick.content[key]) == repr_of(record)


def test_a_client_that_breaks_fails_and_the_run_goes_on(grids, monkeypatch):
    def breaks(self, content):
        raise KeyError("broken")

    monkeypatch.setattr(Malformed, "spoiled", breaks)
    replies = ask(grids("malformed")[0], content())
    assert [reply.has_error() for reply in replies] == [False] * 4 + [True]
    assert "KeyError: 'broken'" in replies[-1].error.reason


def test_what_no_client_could_answer_ends_the_run(grids):
    # One by one the clients would fail; together it is the engine that fails, and says so.
    quick, plain = grids()
    assert all(reply.has_error() for reply in ask(plain, content(server_round=0)))
    with pytest.raises(ValueError, match=r"foreign \['other'\]"):
        ask(quick, content(model={"other": MODEL["output.bias"]}))
    with pytest.raises(ValueError, match="'server-round' is 0"):
        ask(quick, content(server_round=0))


def test_messages_of_different_content_go_the_plain_way(grids, monkeypatch):
    quick, plain = grids()
    monkeypatch.setattr(Cohort, "propose", None)  # would raise if it were called
    for grid in (quick, plain):
        messages = [Message(content(t), t + FIRST_NODE_ID, "train") for t in (1, 2)]
        replies = list(grid.send_and_receive(messages))
        assert not any(reply.has_error() for reply in replies)


def test_other_messages_reach_the_client_app():
    app = ClientApp()

    @app.query()
    def query(message, context):
        return Message(RecordDict({"seen": ConfigRecord({"q": 1})}), reply_to=message)

    settings = Settings(num_clients=3)
    grid = CohortGrid(app, Cohort([build_client(settings, i, "honest") for i in range(3)]))
    replies = ask(grid, RecordDict(), "query", nodes=range(3))
    assert [reply.content["seen"]["q"] for reply in replies] == [1, 1, 1]
