"""The hostile replies themselves: each is what its name says, from any ClientApp."""

from __future__ import annotations

import io

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import EvaluateIns, FitIns, Parameters, ndarrays_to_parameters
from flwr.compat.common.recorddict_compat import (
    evaluateins_to_recorddict,
    fitins_to_recorddict,
    recorddict_to_fitres,
)

from flwr_krum.attacks import FAULTS, malforming_mod
from flwr_krum.boundary.records import to_record
from flwr_krum.serverapp.strategy import Krum

MODEL = {
    "w": np.arange(12, dtype=np.float32).reshape(4, 3) + 1,
    "b": np.arange(3, dtype=np.float32) + 1,
}


def honest():
    arrays = ArrayRecord({key: Array(array) for key, array in MODEL.items()})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 7, "loss": 0.5})})


def broken(fault, content=None):
    content = content or honest()
    FAULTS[fault](content)
    return content


def loaded(content, key="arrays"):
    """Read the arrays as numpy does, without the package."""
    return {name: np.load(io.BytesIO(a.data)) for name, a in content[key].items()}


# --- what the faults are ---

VALUES = {
    "nan": lambda a: np.isnan(a).all(),
    "inf": lambda a: np.isposinf(a).all(),
    "huge": lambda a: (a == np.float32(1e30)).all(),
    "huge-float64": lambda a: a.dtype == np.float64 and (a == 1e300).all(),
    "denormal": lambda a: (a > 0).all() and (a < np.finfo(np.float32).tiny).all(),
    "float64": lambda a: a.dtype == np.float64,
    "float16": lambda a: a.dtype == np.float16,
    "integers": lambda a: a.dtype == np.int64,
}


@pytest.mark.parametrize("fault", VALUES)
def test_a_fault_of_values_or_dtypes_is_in_every_array(fault):
    arrays = loaded(broken(fault))
    assert {name: a.shape for name, a in arrays.items()} == {"w": (4, 3), "b": (3,)}
    assert all(VALUES[fault](a) for a in arrays.values())
    if fault in ("float64", "float16", "integers"):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, MODEL[name])


@pytest.mark.parametrize(("fault", "value"), [("one-nan", np.nan), ("one-minus-inf", -np.inf)])
def test_a_single_coordinate_may_be_the_only_fault(fault, value):
    arrays = loaded(broken(fault))
    expected = MODEL["w"].copy()
    expected[-1, -1] = value
    np.testing.assert_array_equal(arrays["w"], expected)
    np.testing.assert_array_equal(arrays["b"], MODEL["b"])


STRUCTURES = {
    "wrong-size": {"w": (13,), "b": (3,)},
    "reshaped": {"w": (3, 4), "b": (3,)},
    "missing-array": {"b": (3,)},
    "extra-array": {"w": (4, 3), "b": (3,), "extra": (3,)},
    "renamed-array": {"wx": (4, 3), "b": (3,)},
    "no-arrays": {},
    "swapped-arrays": {"b": (4, 3), "w": (3,)},
}


@pytest.mark.parametrize("fault", STRUCTURES)
def test_a_fault_of_structure_changes_names_and_shapes(fault):
    arrays = loaded(broken(fault))
    assert {name: a.shape for name, a in arrays.items()} == STRUCTURES[fault]


def test_swapped_arrays_look_like_the_honest_ones_to_whoever_ignores_names():
    arrays = loaded(broken("swapped-arrays"))
    assert list(arrays) == ["b", "w"]
    flat = np.concatenate([a.ravel() for a in arrays.values()])
    np.testing.assert_array_equal(flat, np.concatenate([a.ravel() for a in MODEL.values()]))
    np.testing.assert_array_equal(arrays["b"], MODEL["w"])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("garbage", ValueError), ("no-bytes", EOFError), ("truncated", ValueError),
        ("objects", ValueError),
    ],
)  # fmt: skip
def test_a_fault_of_bytes_is_no_array_to_numpy(fault, error):
    arrays = broken(fault)["arrays"]
    with pytest.raises(error):
        np.load(io.BytesIO(arrays["w"].data), allow_pickle=False)
    np.testing.assert_array_equal(np.load(io.BytesIO(arrays["b"].data)), MODEL["b"])


def test_other_kinds_of_numbers_are_well_formed():
    assert np.load(io.BytesIO(broken("complex")["arrays"]["w"].data)).dtype == np.complex64
    assert np.load(io.BytesIO(broken("strings")["arrays"]["w"].data)).tolist() == ["a"]


def test_the_giant_header_claims_400_gigabytes():
    file = io.BytesIO(broken("giant-header")["arrays"]["w"].data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    assert np.prod(shape) * dtype.itemsize == 4 * 10**11


def test_records_may_be_missing_or_doubled():
    assert list(broken("no-record")) == ["metrics"]
    assert list(broken("no-metrics")) == ["arrays"]
    assert len(broken("two-records").array_records) == 2
    assert broken("unknown-serialization")["arrays"]["w"].stype == "pickle"


METRICS = {
    "extra-metric": {"num-examples": 7, "loss": 0.5, "extra": 1.0},
    "list-metric": {"num-examples": 7, "loss": [1.0, 2.0]},
    "examples-missing": {"loss": 0.5},
    "examples-zero": {"num-examples": 0, "loss": 0.5},
    "examples-negative": {"num-examples": -60, "loss": 0.5},
    "examples-inf": {"num-examples": np.inf, "loss": 0.5},
    "examples-1e15": {"num-examples": 10**15, "loss": 0.5},
    "examples-list": {"num-examples": [10, 10], "loss": 0.5},
}


@pytest.mark.parametrize("fault", METRICS)
def test_a_fault_of_metrics_leaves_the_arrays_honest(fault):
    content = broken(fault)
    assert dict(content["metrics"]) == METRICS[fault]
    assert content["arrays"].object_id == honest()["arrays"].object_id


@pytest.mark.parametrize(
    ("fault", "key"), [("nan-metric", "loss"), ("examples-nan", "num-examples")]
)
def test_a_metric_may_be_nan(fault, key):
    assert np.isnan(broken(fault)["metrics"][key])


def test_every_fault_changes_the_reply():
    before = honest()
    for fault in FAULTS:
        assert broken(fault).object_id != before.object_id, fault


def test_a_fault_does_not_reach_into_the_model_that_a_client_holds():
    held = {key: array.copy() for key, array in MODEL.items()}
    for fault in FAULTS:
        arrays = ArrayRecord({key: Array(array) for key, array in held.items()})
        broken(fault, RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": 1})}))
    for key, array in MODEL.items():
        np.testing.assert_array_equal(held[key], array)


# --- on a ClientApp of one's own ---


def context():
    return Context(1, 1, {}, RecordDict(), {})


def own_app(*mods):
    """Return a user's Message API app that knows nothing of this package."""
    app = ClientApp(mods=list(mods))

    def answer(message, context):
        return Message(honest(), reply_to=message)

    app.train()(answer)
    app.train("custom")(answer)
    app.evaluate()(answer)
    app.query()(answer)
    return app


class OwnClient(NumPyClient):
    """A user's client for `aggregate_fit` that knows nothing of this package."""

    def fit(self, parameters, config):
        return [array + 1 for array in parameters], 7, {"loss": 0.5}

    def evaluate(self, parameters, config):
        return 0.25, 7, {"accuracy": 0.5}


def own_fit_app(*mods):
    return ClientApp(client_fn=lambda context: OwnClient().to_client(), mods=list(mods))


def instruction(kind="train", content=None):
    content = RecordDict({"config": ConfigRecord()}) if content is None else content
    return Message(content, dst_node_id=1, message_type=kind)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_mod_breaks_the_training_replies_of_an_own_app(fault):
    for kind in ("train", "train.custom"):
        reply = own_app(malforming_mod(fault))(instruction(kind), context())
        assert reply.content.object_id == broken(fault).object_id


@pytest.mark.parametrize("kind", ["evaluate", "query"])
def test_the_mod_leaves_other_replies_alone(kind):
    reply = own_app(malforming_mod("nan"))(instruction(kind), context())
    assert reply.content.object_id == honest().object_id


def test_the_mod_leaves_an_error_reply_alone():
    app = ClientApp(mods=[malforming_mod("nan")])

    @app.train()
    def train(message, context):
        return Message(Error(3, "no data"), reply_to=message)

    assert app(instruction(), context()).error.reason == "no data"


def test_the_reply_of_an_own_app_is_refused_by_the_server():
    strategy = Krum(num_malicious_nodes=1)
    replies = []
    for node in range(1, 7):
        app = own_app(malforming_mod("one-nan")) if node == 4 else own_app()
        question = Message(RecordDict(), dst_node_id=node, message_type="train")
        replies.append(app(question, context()))
        replies[-1].metadata.__dict__["_src_node_id"] = node
    arrays, metrics = strategy.aggregate_train(1, replies)
    np.testing.assert_array_equal(arrays["w"].numpy(), MODEL["w"])
    assert metrics["refused-nodes"] == [4]


FIT_MODEL = [np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(3, dtype=np.float32)]


def fit_reply(*mods):
    ins = FitIns(ndarrays_to_parameters(FIT_MODEL), {})
    content = fitins_to_recorddict(ins, keep_input=True)
    return own_fit_app(*mods)(instruction("train", content), context()).content


@pytest.mark.parametrize("fault", ["nan", "wrong-size", "missing-array", "garbage", "float64",
                                   "unknown-serialization", "no-bytes"])  # fmt: skip
def test_the_mod_breaks_the_results_of_an_own_numpy_client(fault):
    result = recorddict_to_fitres(fit_reply(malforming_mod(fault)), keep_input=True)
    expected = fit_reply()
    FAULTS[fault](expected)
    expected = recorddict_to_fitres(expected, keep_input=True)
    honest_result = recorddict_to_fitres(fit_reply(), keep_input=True)
    assert result == expected
    assert result.parameters != honest_result.parameters
    assert isinstance(result.parameters, Parameters)
    assert (result.num_examples, result.metrics) == (7, {"loss": 0.5})


CLAIMS = {
    "examples-zero": 0,
    "examples-negative": -60,
    "examples-1e15": 10**15,
    "examples-list": [10, 10],
}


@pytest.mark.parametrize("fault", CLAIMS)
def test_the_mod_forges_the_example_count_of_an_own_numpy_client(fault):
    result = recorddict_to_fitres(fit_reply(malforming_mod(fault)), keep_input=True)
    assert result.num_examples == CLAIMS[fault]
    honest_result = recorddict_to_fitres(fit_reply(), keep_input=True)
    assert result.parameters == honest_result.parameters


@pytest.mark.parametrize("fault", ["no-record", "no-metrics", "examples-missing"])
def test_flower_itself_cannot_read_some_results_of_an_own_numpy_client(fault):
    with pytest.raises(KeyError):
        recorddict_to_fitres(fit_reply(malforming_mod(fault)), keep_input=True)


def test_the_mod_leaves_the_evaluation_of_an_own_numpy_client_alone():
    ins = EvaluateIns(ndarrays_to_parameters(FIT_MODEL), {})
    contents = []
    for mods in ((), (malforming_mod("nan"),)):
        content = evaluateins_to_recorddict(ins, keep_input=True)
        contents.append(own_fit_app(*mods)(instruction("evaluate", content), context()).content)
    assert contents[0].object_id == contents[1].object_id


def test_an_unknown_fault_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"fault is 'nnan', expected one of nan, one-nan, .*"):
        malforming_mod("nnan")


@pytest.mark.parametrize(
    ("fault", "model"),
    [
        ("one-nan", {"steps": np.array(3), "w": np.ones((3, 2), np.float32)}),
        ("one-minus-inf", {"steps": np.array(3), "w": np.ones((3, 2), np.float32)}),
        ("one-nan", {"e": np.zeros(0, np.float32), "w": np.ones((3, 2), np.float32)}),
        ("swapped-arrays", {"w": np.ones((3, 2), np.float32)}),
    ],
)
def test_a_fault_can_be_sent_whatever_the_first_array_is(fault, model):
    content = RecordDict({"a": to_record(model), "m": MetricRecord({"num-examples": 1})})
    FAULTS[fault](content)
