from __future__ import annotations

import inspect
import logging

import flwr.serverapp.strategy as flower
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from flwr_krum.journal import read_journal
from flwr_krum.serverapp import strategy as ours
from flwr_krum.serverapp.strategy import Krum, Medoid, MultiKrum, OneMinusPKrum, RobustAggregation
from tests.flwr_krum.federations import FakeGrid, MessageApi, sent_array
from tests.flwr_krum.npy_bytes import npy
from tests.flwr_krum.references import f_in_force

API = MessageApi()

NAMES = ("Krum", "MultiKrum")


def honest(n=6):
    rng = np.random.default_rng(0)
    return {
        i: {
            "layer1": (0.01 * rng.standard_normal(3)).astype(np.float32),
            "layer2": (1 + 0.01 * rng.standard_normal(3)).astype(np.float32),
        }
        for i in range(1, n + 1)
    }


MODEL = {"layer1": np.zeros(3, np.float32), "layer2": np.ones(3, np.float32)}


@pytest.fixture
def record():
    def build(arrays):
        return ArrayRecord({key: sent_array(npy(array)) for key, array in arrays.items()})

    return build


@pytest.fixture
def play(record):
    """Play one round: honest replies, and the hostile content from client 7."""

    def round_(strategy, hostile=None, configured=True, n=6, hostile_message=None):
        replies = [API.reply(i, arrays) for i, arrays in honest(n).items()]
        if hostile is not None:
            replies.insert(0, API.reply(7, hostile))
        if hostile_message is not None:
            replies.insert(0, hostile_message)
        if configured:
            grid = FakeGrid(range(1, 8), lambda *_: None)
            strategy.configure_train(1, record(MODEL), ConfigRecord(), grid)
        return strategy.aggregate_train(1, replies)

    return round_


def assert_honest(arrays):
    assert list(arrays) == ["layer1", "layer2"]
    assert np.abs(arrays["layer1"].numpy()).max() < 0.1
    assert np.abs(arrays["layer2"].numpy() - 1).max() < 0.1


# --- the place of Flower's own ---


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_flowers_class_is_accepted_by_keyword(name):
    parameters = inspect.signature(getattr(flower, name)).parameters
    strategy = getattr(ours, name)(**{key: p.default for key, p in parameters.items()})
    theirs = getattr(flower, name)()
    for attribute in (
        "fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes",
        "min_available_nodes", "weighted_by_key", "arrayrecord_key", "configrecord_key",
    ):  # fmt: skip
        assert getattr(strategy, attribute) == getattr(theirs, attribute)
        assert getattr(getattr(ours, name)(), attribute) == getattr(theirs, attribute)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_flowers_class_has_its_effect(name):
    settings = {
        "fraction_train": 0.5,
        "fraction_evaluate": 0.25,
        "min_train_nodes": 3,
        "min_evaluate_nodes": 4,
        "min_available_nodes": 5,
        "weighted_by_key": "weight",
        "arrayrecord_key": "a",
        "configrecord_key": "c",
    }
    strategy = getattr(ours, name)(num_malicious_nodes=2, **settings)
    assert {key: getattr(strategy, key) for key in settings} == settings
    assert isinstance(strategy, flower.FedAvg)


def test_the_sampling_arguments_may_come_by_position_as_in_flower():
    for cls in (Krum, MultiKrum, Medoid, OneMinusPKrum):
        strategy = cls(0.5, 0.25, 3, 4, 5)
        assert (strategy.fraction_train, strategy.min_available_nodes) == (0.5, 5)
    with pytest.raises(TypeError, match="6 arguments by position, at most 5; name the others"):
        Krum(1.0, 1.0, 2, 2, 2, 1)


def test_every_strategy_is_a_robust_aggregation():
    for cls in (Krum, MultiKrum, Medoid, OneMinusPKrum):
        assert issubclass(cls, RobustAggregation)


def test_the_keys_of_the_instructions_are_the_operators(record):
    strategy = Krum(arrayrecord_key="a", configrecord_key="c", num_malicious_nodes=1)
    grid = FakeGrid(range(1, 8), lambda *_: None)
    messages = list(strategy.configure_train(4, record(MODEL), ConfigRecord({"lr": 1.0}), grid))
    assert len(messages) == 7
    for message in messages:
        assert set(message.content) == {"a", "c"}
        assert dict(message.content["c"]) == {"lr": 1.0, "server-round": 4}


# --- hostile replies ---


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_matched_by_key_not_by_position(play, name, configured):
    """One that swaps the names has the flat vector of the centre, and would be chosen."""
    swapped = {"layer2": np.zeros(3, np.float32), "layer1": np.ones(3, np.float32)}
    strategy = getattr(ours, name)(num_malicious_nodes=1)
    assert strategy.last_report is None
    arrays, _ = play(strategy, swapped, configured)
    assert_honest(arrays)
    assert strategy.last_report is strategy.reports[-1]
    assert 7 not in strategy.reports[-1].selected
    assert strategy.reports[-1].received == tuple(range(1, 8))


def test_honest_arrays_in_another_order_are_taken_by_name():
    strategy = MultiKrum(num_malicious_nodes=1, num_nodes_to_select=6)
    replies = [
        API.reply(i, arrays if i % 3 else dict(reversed(arrays.items())))
        for i, arrays in honest().items()
    ]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert_honest(arrays)


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (RecordDict(), "0 ArrayRecords, expected 1"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 1})}), "0 ArrayRecords, expected 1"),
        (RecordDict({"arrays": ArrayRecord()}), "missing 'layer1', 'layer2'"),
        (RecordDict({"a": ArrayRecord(), "b": ArrayRecord()}), "2 ArrayRecords, expected 1"),
        (RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord({"x": 1})}), "missing"),
    ],
)
def test_a_reply_without_exactly_one_array_record_is_refused(play, content, reason, configured):
    strategy = Krum(num_malicious_nodes=1)
    arrays, _ = play(strategy, content, configured)
    assert_honest(arrays)
    refused = strategy.reports[-1].refused
    assert [r.client for r in refused] == [7]
    assert reason in refused[0].reason
    assert strategy.reports[-1].byzantine == 1


@pytest.mark.parametrize("stype", ["pickle", "numpy", "", "x" * 10_000, "torch.Tensor"])
def test_another_serialization_is_refused(play, stype):
    data = npy(np.zeros(3, np.float32))
    content = RecordDict({"arrays": ArrayRecord({k: sent_array(data, stype) for k in MODEL})})
    strategy = Krum(num_malicious_nodes=1)
    assert_honest(play(strategy, content)[0])
    reason = strategy.reports[-1].refused[0].reason
    named = f"serialized as {stype[:40]!r}, expected 'numpy.ndarray'"
    assert reason == f"array 'layer1': {named}"


def test_the_reason_of_a_foreign_serialization_is_short():
    array = sent_array(npy(np.zeros(1)), "pickle")
    content = RecordDict({"arrays": ArrayRecord({"k" * 1_000_000: array})})
    strategy = Krum(num_malicious_nodes=0)
    strategy.aggregate_train(1, [API.reply(1, content)])
    assert len(strategy.reports[-1].refused[0].reason) < 400


def test_what_an_array_says_about_itself_is_ignored(play):
    lying = {
        key: Array("float64", (10**12,), "numpy.ndarray", npy(array))
        for key, array in honest(1)[1].items()
    }
    strategy = Krum(num_malicious_nodes=1)
    assert_honest(play(strategy, RecordDict({"arrays": ArrayRecord(lying)}))[0])
    assert not strategy.reports[-1].refused


def test_an_error_reply_is_a_failure_with_its_text(play):
    strategy = Krum(num_malicious_nodes=1)
    assert_honest(play(strategy, RuntimeError("node is gone"))[0])
    report = strategy.reports[-1]
    assert dict(report.failed) == {7: "node is gone"}
    assert report.byzantine == 1
    assert report.silent == ()


def test_a_reply_that_cannot_even_be_looked_at_is_refused(play):
    class Broken(Message):
        @property
        def content(self):
            raise KeyError("nothing here")

    broken = API.reply(7, {})
    broken.__class__ = Broken
    strategy = Krum(num_malicious_nodes=1, train_metrics_aggr_fn=lambda *_: MetricRecord())
    assert_honest(play(strategy, hostile_message=broken)[0])
    assert "unreadable reply: KeyError" in strategy.reports[-1].refused[0].reason


def test_a_node_that_replies_twice_is_refused(play):
    strategy = Krum(num_malicious_nodes=1)
    again = API.reply(1, MODEL)
    arrays, _ = play(strategy, honest(1)[1], hostile_message=again)
    assert_honest(arrays)
    assert strategy.reports[-1].refused[0].client == 1
    assert "2 replies in one round" in strategy.reports[-1].refused[0].reason


METRICS = {
    "none": {},
    "no examples": {"metrics": MetricRecord({"loss": 1.0})},
    "a list of examples": {"metrics": MetricRecord({"num-examples": [1, 2]})},
    "NaN examples": {"metrics": MetricRecord({"num-examples": float("nan")})},
    "one more": {"metrics": MetricRecord({"num-examples": 1, "loss": 1.0, "evil": 1e308})},
    "a list of losses": {"metrics": MetricRecord({"num-examples": 1, "loss": [1.0, 2.0]})},
    "an infinite loss": {"metrics": MetricRecord({"num-examples": 1, "loss": float("inf")})},
    "another name": {"evil": MetricRecord({"num-examples": 1, "loss": 1.0})},
    "two records": {
        "a": MetricRecord({"loss": 9.0}),
        "b": MetricRecord({"loss": [1.0], "num-examples": -3}),
    },
    "a config": {"c": ConfigRecord({"x": "y"}), "metrics": MetricRecord({"num-examples": 1})},
}


@pytest.mark.parametrize("case", METRICS)
def test_malformed_metrics_touch_neither_the_model_nor_the_run(record, case):
    strategy = Krum(num_malicious_nodes=1)
    replies = [API.reply(i, arrays, metrics={"loss": 0.1 * i}) for i, arrays in honest().items()]
    content = RecordDict({"arrays": record(honest(1)[1]), **METRICS[case]})
    replies.append(API.reply(7, content))
    arrays, metrics = strategy.aggregate_train(1, replies)
    assert_honest(arrays)
    assert not metrics.keys() & {"evil", "num-examples"}
    assert 0.1 <= metrics["loss"] <= 0.6
    evaluated = strategy.aggregate_evaluate(1, replies)
    assert 0.1 <= evaluated["loss"] <= 0.6


def test_metrics_of_refused_replies_do_not_count():
    strategy = Krum(num_malicious_nodes=1)
    replies = [API.reply(i, arrays, metrics={"loss": float(i)}) for i, arrays in honest(5).items()]
    nan = {key: array * np.float32("nan") for key, array in MODEL.items()}
    replies += [API.reply(i, nan, metrics={"loss": 1e9}) for i in range(6, 11)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert metrics["loss"] == 3.0


def test_the_operators_own_metrics_function_sees_the_accepted_and_may_fail():
    seen = []

    def own(contents, key):
        seen.append((len(contents), key))
        return MetricRecord({"own": 1.0})

    nan = {key: array * np.float32("nan") for key, array in MODEL.items()}
    replies = [API.reply(i, arrays) for i, arrays in honest().items()]
    replies.append(API.reply(7, nan))
    strategy = Krum(num_malicious_nodes=1, train_metrics_aggr_fn=own, weighted_by_key="w")
    assert strategy.aggregate_train(1, replies)[1]["own"] == 1.0
    assert seen == [(6, "w")]

    def fails(contents, key):
        raise KeyError(key)

    strategy = Krum(num_malicious_nodes=1, train_metrics_aggr_fn=fails)
    arrays, metrics = strategy.aggregate_train(1, replies)
    assert_honest(arrays)
    assert "own" not in (metrics or {})


def test_evaluation_without_replies_has_no_metrics():
    assert Krum().aggregate_evaluate(1, []) is None


def test_the_replies_are_not_changed():
    strategy = MultiKrum(num_malicious_nodes=1)
    replies = [API.reply(i, arrays) for i, arrays in honest().items()]
    before = [reply.content.object_id for reply in replies]
    strategy.aggregate_train(1, replies)
    assert [reply.content.object_id for reply in replies] == before
    assert all(len(reply.content["arrays"]) == 2 for reply in replies)


def test_replies_may_come_as_an_iterator():
    strategy = Krum(num_malicious_nodes=1)
    replies = (API.reply(i, arrays) for i, arrays in honest().items())
    assert_honest(strategy.aggregate_train(1, replies)[0])


# --- whole runs ---


def test_a_whole_run_converges_beside_hostile_nodes(record):
    """Each node steps half the way to its own target; the hostile ones send rubbish."""
    rng = np.random.default_rng(1)

    def answer(node, message):
        if node == 1:
            return API.reply(node, {"x": b"rubbish"})
        if node == 2:
            return API.reply(node, RecordDict())
        if node == 3:
            return None
        w = message.content["arrays"]["w"].numpy()
        if node == 4:
            return API.reply(node, {"w": -100 * w})
        target = 5 + 0.01 * rng.standard_normal(4)
        return API.reply(node, {"w": (w + 0.5 * (target - w)).astype(np.float32)})

    for strategy in (Krum(num_malicious_nodes=3), MultiKrum(num_malicious_nodes=3)):
        grid = FakeGrid(range(1, 14), answer)
        initial = record({"w": np.zeros(4, np.float32)})
        result = strategy.start(grid, initial, num_rounds=8)
        np.testing.assert_allclose(result.arrays["w"].numpy(), 5, atol=0.1)
        assert len(strategy.reports) == 8
        for report in strategy.reports:
            assert [refused.client for refused in report.refused] == [1, 2]
            assert report.silent == (3,)
            assert report.byzantine == f_in_force(3, accepted=10, refused=2)
            assert 4 not in report.selected


def seven(record):
    """A grid of seven honest nodes that notes the rounds they are told, and the initial model."""
    told = []

    def answer(node, message):
        told.append(message.content["config"]["server-round"])
        return API.reply(node, {"w": message.content["arrays"]["w"].numpy() + np.float32(node)})

    return FakeGrid(range(1, 8), answer), record({"w": np.zeros(4, np.float32)}), told


@pytest.mark.parametrize("by_keyword", [True, False])
def test_server_side_evaluation_counts_rounds_as_the_nodes_do(record, by_keyword):
    grid, initial, told = seven(record)
    seen = []

    def evaluate(t, arrays):
        seen.append((t, arrays["w"].numpy()[0]))
        return MetricRecord({"loss": float(t)})

    strategy = Krum(num_malicious_nodes=1, rounds_done=5, fraction_evaluate=0.0)
    places, names = ((), {"evaluate_fn": evaluate}) if by_keyword else ((None, None, evaluate), {})
    result = strategy.start(grid, initial, 2, 10.0, *places, **names)
    assert [t for t, _ in seen] == [5, 6, 7]
    assert [w for _, w in seen] == sorted({w for _, w in seen})
    assert told == [6] * 7 + [7] * 7
    # Flower's own record counts from where this start began.
    losses = {t: metrics["loss"] for t, metrics in result.evaluate_metrics_serverapp.items()}
    assert losses == {0: 5.0, 1: 6.0, 2: 7.0}


def test_a_strategy_that_is_started_twice_counts_its_rounds_on(record, tmp_path):
    grid, initial, told = seven(record)
    seen = []
    strategy = Krum(num_malicious_nodes=1, journal=tmp_path / "j", fraction_evaluate=0.0)
    options = {"num_rounds": 2, "evaluate_fn": lambda t, _: seen.append(t)}
    first = strategy.start(grid, initial, **options)
    strategy.start(grid, first.arrays, **options)
    assert seen == [0, 1, 2, 2, 3, 4]
    assert told == [t for t in (1, 2, 3, 4) for _ in range(7)]
    assert [report.server_round for report in strategy.reports] == [1, 2, 3, 4]
    assert read_journal(tmp_path / "j") == strategy.reports


def test_a_strategy_that_goes_on_and_is_started_twice_counts_on_from_both(record):
    grid, initial, told = seven(record)
    strategy = Krum(num_malicious_nodes=1, rounds_done=5, fraction_evaluate=0.0)
    for _ in range(2):
        strategy.start(grid, initial, num_rounds=1)
    assert told == [6] * 7 + [7] * 7


def test_a_fraction_of_zero_trains_nobody(record):
    strategy = Krum(fraction_train=0.0, num_malicious_nodes=1)
    grid = FakeGrid(range(1, 8), lambda *_: pytest.fail("asked"))
    assert list(strategy.configure_train(1, record(MODEL), ConfigRecord(), grid)) == []
    assert strategy.aggregate_train(1, []) == (None, None)
    assert strategy.reports == []


def test_the_summary_ends_with_flowers_own_tree():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda log: lines.append(log.getMessage())
    logging.getLogger("flwr").addHandler(handler)
    MultiKrum(num_malicious_nodes=2, num_nodes_to_select=4).summary()
    logging.getLogger("flwr").removeHandler(handler)
    assert lines[0] == "\t├──> MultiKrum settings:"
    assert lines[1] == "\t│\t├── Rule: MultiKrum(f=2, strict=True, m=4)"
    assert "\t├──> Sampling:" in lines
    assert any("Weighted by" in line for line in lines)
