import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common import EvaluateIns, FitIns, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import (
    evaluateins_to_recorddict,
    fitins_to_recorddict,
    recorddict_to_evaluateres,
    recorddict_to_fitres,
)

from clients import Settings, build_client, build_model, parameters_of
from clients.client_app import app, build_client_app

RUN = {"num-clients": 6, "f": 2, "attack": "gaussian", "rule": "krum"}
SETTINGS = Settings.from_config(RUN)

pytestmark = pytest.mark.usefixtures("task_identity")


@pytest.fixture
def weights():
    return parameters_of(build_model("spambase", "mlp", 0))


def context(partition_id=0, run_config=RUN, **node_config):
    node_config = {"partition-id": partition_id, "num-partitions": 6, **node_config}
    return Context(1, 1, node_config, RecordDict(), dict(run_config))


def record(weights):
    return ArrayRecord({key: Array.from_numpy_ndarray(value) for key, value in weights.items()})


def message(records, message_type="train"):
    return Message(RecordDict(records), dst_node_id=1, message_type=message_type)


def train_message(weights, server_round=1):
    config = ConfigRecord({"server-round": server_round, "lr": 0.1})
    return message({"arrays": record(weights), "config": config})


def bytes_of(arrays):
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("partition_id", [0, 5])
def test_both_apis_give_the_bytes_and_metrics_of_the_client(weights, partition_id):
    role = "honest" if partition_id == 0 else "gaussian"
    client = build_client(SETTINGS, partition_id, role)
    expected, num_examples, metrics = client.fit(list(weights.values()), {"server-round": 3})

    reply = app(train_message(weights, 3), context(partition_id)).content
    assert list(reply) == ["arrays", "metrics"]
    assert bytes_of(reply["arrays"].to_numpy_ndarrays()) == bytes_of(expected)
    assert dict(reply["metrics"]) == {"num-examples": num_examples, "loss": metrics["loss"]}

    fit_ins = FitIns(ndarrays_to_parameters(list(weights.values())), {"server-round": 3})
    legacy = app(
        Message(fitins_to_recorddict(fit_ins, True), dst_node_id=1, message_type="train"),
        context(partition_id),
    ).content
    fit_res = recorddict_to_fitres(legacy, True)
    assert bytes_of(parameters_to_ndarrays(fit_res.parameters)) == bytes_of(expected)
    assert (fit_res.num_examples, fit_res.metrics) == (num_examples, metrics)


def test_both_apis_evaluate_alike(weights):
    loss, num_examples, metrics = build_client(SETTINGS, 1, "honest").evaluate(
        list(weights.values()), {}
    )
    sent = message({"arrays": record(weights), "config": ConfigRecord({})}, "evaluate")
    reply = app(sent, context(1)).content
    assert dict(reply["metrics"]) == {
        "num-examples": num_examples,
        "loss": loss,
        "accuracy": metrics["accuracy"],
    }

    evaluate_ins = EvaluateIns(ndarrays_to_parameters(list(weights.values())), {})
    content = evaluateins_to_recorddict(evaluate_ins, True)
    legacy = app(Message(content, dst_node_id=1, message_type="evaluate"), context(1)).content
    evaluate_res = recorddict_to_evaluateres(legacy)
    assert (evaluate_res.loss, evaluate_res.num_examples) == (loss, num_examples)
    assert evaluate_res.metrics == metrics


def shuffled(weights):
    """The same layers in other orders; the first two of a kind change places in one of them."""
    keys = list(weights)
    orders = [keys[::-1], sorted(keys), [keys[1], keys[0], *keys[2:]], keys[3:] + keys[:3]]
    return [{key: weights[key] for key in order} for order in orders]


@pytest.mark.parametrize("partition_id", [0, 5])
def test_layers_are_taken_by_their_keys_and_answered_in_the_order_of_the_message(
    weights, partition_id
):
    expected = app(train_message(weights, 3), context(partition_id)).content["arrays"]
    for other in shuffled(weights):
        reply = app(train_message(other, 3), context(partition_id)).content["arrays"]
        assert list(reply) == list(other) != list(weights)
        assert {key: reply[key].data for key in reply} == {
            key: expected[key].data for key in expected
        }


def test_layers_of_one_shape_do_not_change_places():
    config = {**RUN, "task": "mnist", "model": "convnet"}
    weights = parameters_of(build_model("mnist", "convnet", 0))
    # The third convolution and the fourth have one shape, and so have all but one of the biases.
    keys = sorted(weights, reverse=True)
    other = {key: weights[key] for key in keys}
    sent = [app(train_message(model), context(run_config=config)) for model in (weights, other)]
    first, second = (reply.content["arrays"] for reply in sent)
    for key in weights:
        assert first[key].data == second[key].data


def test_evaluation_takes_layers_by_their_keys(weights):
    config = ConfigRecord({})
    found = [
        dict(
            app(message({"a": record(model), "c": config}, "evaluate"), context(1)).content[
                "metrics"
            ]
        )
        for model in (weights, *shuffled(weights))
    ]
    assert all(metrics == found[0] for metrics in found)


def test_the_arrays_of_a_list_are_taken_by_their_places(weights):
    numbered = {str(i): value for i, value in enumerate(weights.values())}
    assert list(ArrayRecord(list(weights.values()))) == list(numbered)
    expected = app(train_message(weights), context()).content["arrays"].to_numpy_ndarrays()
    for order in (list(numbered), list(numbered)[::-1]):
        sent = train_message({key: numbered[key] for key in order})
        reply = app(sent, context()).content["arrays"]
        assert list(reply) == order
        ordered = [reply[key].numpy() for key in numbered]
        assert bytes_of(ordered) == bytes_of(expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"output.bias": None}, r"missing \['output.bias'\], foreign none"),
        ({"more": "output.bias"}, r"missing none, foreign \['more'\]"),
        ({"output.bias": None, "6": "output.bias"}, r"missing \['output.bias'\], foreign \['6'\]"),
    ],
)
def test_a_model_with_other_layers_is_refused_by_their_names(weights, change, said):
    sent = {**weights, **{key: weights[name] for key, name in change.items() if name}}
    sent = {key: value for key, value in sent.items() if change.get(key, key) is not None}
    for kind in ("train", "evaluate"):
        records = {"arrays": record(sent), "config": ConfigRecord({"server-round": 1})}
        with pytest.raises(ValueError, match=f"the message's arrays are not the model's: {said}"):
            app(message(records, kind), context())


@pytest.mark.parametrize("schedule", ["constant", "inverse", "power"])
@pytest.mark.parametrize("attack", ["gaussian", "omniscient"])
@pytest.mark.parametrize("t", [2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1])
def test_no_round_that_flower_carries_is_too_late(weights, schedule, attack, t):
    config = {**RUN, "schedule": schedule, "attack": attack, "omniscient-examples": 5}
    for partition_id in (0, 5):
        reply = app(train_message(weights, t), context(partition_id, config)).content
        assert all(np.isfinite(array).all() for array in reply["arrays"].to_numpy_ndarrays())
        fit_ins = FitIns(ndarrays_to_parameters(list(weights.values())), {"server-round": t})
        content = fitins_to_recorddict(fit_ins, True)
        legacy = app(
            Message(content, dst_node_id=1, message_type="train"), context(partition_id, config)
        )
        assert not legacy.has_error()


def test_records_of_any_name_are_taken_when_they_are_the_only_ones(weights):
    config = ConfigRecord({"server-round": 2})
    named = app(message({"arrays": record(weights), "config": config}), context()).content
    other = app(message({"model": record(weights), "instructions": config}), context()).content
    assert bytes_of(other["arrays"].to_numpy_ndarrays()) == bytes_of(
        named["arrays"].to_numpy_ndarrays()
    )


def test_the_record_named_arrays_wins_over_others(weights):
    config = ConfigRecord({"server-round": 2})
    garbage = ArrayRecord([np.zeros(3)])
    records = {"extra": garbage, "arrays": record(weights), "config": config, "c2": ConfigRecord()}
    assert list(app(message(records), context()).content["arrays"]) == list(weights)


@pytest.mark.parametrize(
    ("names", "found"), [([], r"0 ArrayRecords \(none\)"), (["a", "b"], r"2 ArrayRecords \(a, b\)")]
)
def test_a_message_without_a_clear_model_is_refused(weights, names, found):
    records = {name: record(weights) for name in names}
    with pytest.raises(ValueError, match=f"{found}, expected one, or one that is named 'arrays'"):
        app(message({**records, "config": ConfigRecord({"server-round": 1})}), context())


def test_a_message_without_a_clear_config_is_refused(weights):
    records = {"arrays": record(weights), "a": ConfigRecord(), "b": ConfigRecord()}
    with pytest.raises(ValueError, match=r"2 ConfigRecords \(a, b\), expected one, or one that is"):
        app(message(records), context())


def test_a_message_without_a_round_is_refused(weights):
    with pytest.raises(ValueError, match="'server-round' is None, expected an integer >= 1"):
        app(message({"arrays": record(weights)}), context())


def test_a_query_tells_the_partition():
    reply = app(message({"config": ConfigRecord()}, "query"), context(4)).content
    assert {name: dict(value) for name, value in reply.items()} == {"node": {"partition-id": 4}}


def test_the_node_config_turns_a_node_hostile(weights):
    sent = train_message(weights)
    honest = app(sent, context(0)).content["arrays"].to_numpy_ndarrays()
    hostile = app(sent, context(0, role="gaussian")).content["arrays"].to_numpy_ndarrays()
    expected, *_ = build_client(SETTINGS, 0, "gaussian").fit(
        list(weights.values()), {"server-round": 1}
    )
    assert bytes_of(hostile) == bytes_of(expected) != bytes_of(honest)


def test_the_node_config_chooses_the_fault_of_a_malformed_node(weights):
    sent = train_message(weights)
    honest = app(sent, context(0)).content["arrays"].to_numpy_ndarrays()
    for fault, test in (("nan", np.isnan), ("inf", np.isinf)):
        arrays = app(sent, context(0, role="malformed", fault=fault)).content["arrays"]
        assert all(test(array).all() for array in arrays.to_numpy_ndarrays())
    assert not any(np.isnan(array).any() for array in honest)


def test_an_engine_without_a_run_config_uses_the_apps_own(weights):
    own = build_client_app(RUN)
    sent = train_message(weights)
    for partition_id in (0, 5):
        expected = app(sent, context(partition_id)).content["arrays"].to_numpy_ndarrays()
        found = own(sent, context(partition_id, run_config={})).content["arrays"]
        assert bytes_of(found.to_numpy_ndarrays()) == bytes_of(expected)


def test_the_run_config_wins_over_the_apps_own(weights):
    own = build_client_app({**RUN, "learning-rate": 9.0, "seed": 5})
    faster = {**RUN, "learning-rate": 0.5, "seed": 5}
    sent = train_message(weights)
    expected = app(sent, context(run_config=faster)).content["arrays"].to_numpy_ndarrays()
    found = own(sent, context(run_config={"learning-rate": 0.5})).content["arrays"]
    assert bytes_of(found.to_numpy_ndarrays()) == bytes_of(expected)


def test_a_node_without_a_partition_is_refused(weights):
    nameless = Context(1, 1, {}, RecordDict(), dict(RUN))
    with pytest.raises(ValueError, match="partition-id is None"):
        app(train_message(weights), nameless)


def test_the_app_keeps_torch_to_one_thread():
    assert torch.get_num_threads() == 1
