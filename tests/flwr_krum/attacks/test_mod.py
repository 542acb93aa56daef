"""Attacks as a Flower mod: any ClientApp of one's own attacks, over both APIs."""

import io
import re

import numpy as np
import pytest
import torch
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
from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import fitins_to_recorddict, recorddict_to_fitres

from flwr_krum.attacks.mod import attack_mod
from flwr_krum.boundary.bfloat16 import BFLOAT16, widened
from flwr_krum.boundary.records import from_record, to_record
from flwr_krum.serverapp.strategy import Krum

MODEL = {
    "w": np.arange(12, dtype=np.float32).reshape(4, 3) + 1,
    "steps": np.array(7),
    "b": np.arange(3, dtype=np.float64) + 1,
}
LEARNT = {"w": 0.5, "steps": 1, "b": -0.25}


def trained(model=MODEL, learnt=LEARNT):
    return {key: (a + np.asarray(learnt[key], a.dtype)) for key, a in model.items()}


def context(node=1):
    return Context(1, node, {}, RecordDict(), {})


def instruction(kind="train", config=None, model=MODEL, **records):
    content = {"arrays": to_record(model), "config": ConfigRecord(config or {}), **records}
    return Message(RecordDict(content), dst_node_id=1, message_type=kind)


def own_app(attack, sent=None, name="arrays", takes=False):
    """Return a user's Message API app that knows nothing of this package."""
    app = ClientApp(mods=[attack_mod(attack)])

    def answer(message, context):
        arrays = trained() if sent is None else sent
        if takes:
            message.content["arrays"].clear()
        metrics = MetricRecord({"num-examples": 7})
        return Message(RecordDict({name: to_record(arrays), "m": metrics}), reply_to=message)

    app.train()(answer)
    app.train("custom")(answer)
    app.evaluate()(answer)
    app.query()(answer)
    return app


def loaded(reply, name="arrays"):
    """Read the arrays as numpy does, without the package."""
    return {key: np.load(io.BytesIO(a.data)) for key, a in reply.content[name].items()}


@pytest.mark.parametrize("kind", ["train", "train.custom"])
@pytest.mark.parametrize("takes", [False, True])
def test_the_row_takes_the_place_of_the_honest_update(kind, takes):
    app = own_app("sign-flip(scale=10)", takes=takes)
    arrays = loaded(app(instruction(kind), context()))
    assert list(arrays) == list(MODEL)
    np.testing.assert_array_equal(arrays["w"], MODEL["w"] - np.float32(5))
    np.testing.assert_array_equal(arrays["b"], MODEL["b"] + 2.5)
    assert arrays["steps"] == 8  # an integer is sent as the app has it
    for key, array in arrays.items():
        assert (array.dtype, array.shape) == (MODEL[key].dtype, MODEL[key].shape)


def test_the_rest_of_the_reply_is_the_apps_own():
    reply = own_app("zero(of=model)")(instruction(), context())
    assert dict(reply.content["m"]) == {"num-examples": 7}
    assert not loaded(reply)["w"].any()


@pytest.mark.parametrize("kind", ["evaluate", "query"])
def test_other_replies_are_left_alone(kind):
    arrays = loaded(own_app("zero")(instruction(kind), context()))
    np.testing.assert_array_equal(arrays["w"], trained()["w"])


def test_an_error_reply_is_left_alone():
    app = ClientApp(mods=[attack_mod("zero")])

    @app.train()
    def train(message, context):
        return Message(Error(3, "no data"), reply_to=message)

    assert app(instruction(), context()).error.reason == "no data"


@pytest.mark.parametrize(
    ("dtype", "largest"), [(np.float16, 65504), (np.float32, 3e38), (np.float64, 1e308)]
)
def test_what_a_dtype_cannot_hold_is_infinite_in_silence(dtype, largest, recwarn):
    model = {"w": np.array([1, -1, 0], dtype)}
    sent = {"w": model["w"] + np.array([largest / 4, -largest / 4, 0], dtype)}
    message = instruction(model=model)
    array = loaded(own_app("model-replacement(scale=1000)", sent)(message, context()))["w"]
    assert array.dtype == dtype
    assert array.tolist() == [np.inf, -np.inf, 0]
    assert not recwarn.list


def test_a_model_that_has_become_infinite_is_attacked_in_silence(recwarn):
    model = {"w": np.array([np.inf, 1], np.float32)}
    app = own_app("sign-flip", {"w": np.array([np.inf, 2], np.float32)})
    array = loaded(app(instruction(model=model), context()))["w"]
    assert np.isnan(array[0])
    assert array[1] == 0
    assert not recwarn.list


def test_bfloat16_is_read_and_written():
    def bfloat16(*values):
        return torch.tensor(values).bfloat16().view(torch.int16).numpy().view(BFLOAT16)

    model, sent = bfloat16(1.0, 2.0, 3.0), bfloat16(1.5, 1e38, -1e38)
    app = own_app("model-replacement(scale=100)", {"w": sent})
    reply = app(instruction(model={"w": model}), context())
    array = from_record(reply.content["arrays"])["w"]
    assert array.dtype == BFLOAT16
    assert widened(array).tolist() == [51, np.inf, -np.inf]
    reply = own_app("non-finite", {"w": sent})(instruction(model={"w": model}), context())
    assert np.isnan(widened(from_record(reply.content["arrays"])["w"])).all()


@pytest.mark.parametrize("sent", [{"steps": np.array(3)}, {}])
def test_a_reply_without_floats_stays_as_it_is(sent):
    assert loaded(own_app("zero", sent)(instruction(model=sent), context())) == sent


def test_records_are_matched_by_name_or_are_the_only_ones():
    extra = {"control": to_record({"w": np.zeros((4, 3), np.float32)})}
    reply = own_app("zero")(instruction(**extra), context())
    np.testing.assert_array_equal(loaded(reply)["w"], MODEL["w"])
    reply = own_app("zero", name="model")(instruction(), context())
    np.testing.assert_array_equal(loaded(reply, "model")["w"], MODEL["w"])
    with pytest.raises(ValueError, match=r"has 2 ArrayRecords \(arrays, control\), expected one"):
        own_app("zero", name="model")(instruction(**extra), context())


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"w": np.zeros(5, np.float32)}, r"array 'w' is of shape \(5,\), the model's is \(4, 3\)"),
        ({"v": np.zeros(5, np.float32)}, r"array 'v' is of shape \(5,\), the model's is missing"),
    ],
)
def test_a_reply_of_another_form_is_an_error(sent, message):
    with pytest.raises(ValueError, match=message):
        own_app("zero", sent)(instruction(), context())


def test_a_reply_without_a_model_is_an_error():
    app = ClientApp(mods=[attack_mod("zero")])
    app.train()(lambda message, context: Message(RecordDict(), reply_to=message))
    with pytest.raises(ValueError, match="the reply has no ArrayRecord"):
        app(instruction(), context())


# --- over rounds ---


def noise(app, state, **config):
    return loaded(app(instruction(config=config), state))["w"]


def test_noise_is_new_in_each_round_and_at_each_node_and_the_same_in_each_run():
    app = own_app("gaussian")
    first, second = context(), context()
    runs = [[noise(app, state) for _ in range(3)] for state in (first, second)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).all()
    assert (runs[0][0] != noise(app, context(node=2**63 + 5))).all()


def test_the_memory_is_kept_in_the_context_of_the_node():
    app, state = own_app("free-rider(noise=0)"), context()
    other = {key: (array + 1 if key == "w" else array) for key, array in MODEL.items()}
    first = loaded(app(instruction(), state))
    np.testing.assert_array_equal(first["w"], MODEL["w"])
    second = loaded(app(instruction(model=other), state))
    np.testing.assert_array_equal(second["w"], other["w"] + 1)
    fresh = loaded(app(instruction(model=other), context()))
    np.testing.assert_array_equal(fresh["w"], other["w"])


def test_each_of_two_mods_in_one_app_counts_and_remembers_for_itself():
    texts = "on-off(start=2, rounds=1) | zero", "on-off(start=3) | model-replacement(scale=2)"
    both, state = ClientApp(mods=[attack_mod(text) for text in texts]), context()

    @both.train()
    def train(message, context):
        return Message(RecordDict({"arrays": to_record(trained())}), reply_to=message)

    rows = [noise(both, state) - MODEL["w"] for _ in range(3)]
    honest = trained()["w"] - MODEL["w"]
    for row, factor in zip(rows, (1, 0, 2), strict=True):
        np.testing.assert_array_equal(row, factor * honest)


def test_poisoned_fl_begins_with_an_honest_reply_and_goes_on():
    app, state = own_app("poisoned-fl"), context()
    np.testing.assert_array_equal(loaded(app(instruction(), state))["w"], trained()["w"])
    moved = {key: (array + 1 if key != "steps" else array) for key, array in MODEL.items()}
    row = loaded(app(instruction(model=moved), state))["w"] - moved["w"]
    step = np.sqrt(15)
    np.testing.assert_allclose(np.abs(row), 8 * step * 1 / step, rtol=1e-5)


@pytest.mark.parametrize("key", ["server-round", "server_round"])
def test_the_round_is_the_messages_or_the_number_of_messages(key):
    app, state = own_app("on-off(start=3, rounds=1) | zero"), context()
    honest, zero = trained()["w"], MODEL["w"]
    for expected in (honest, honest, zero, honest):
        np.testing.assert_array_equal(noise(app, state), expected)
    np.testing.assert_array_equal(noise(app, state, **{key: 3}), zero)
    np.testing.assert_array_equal(noise(app, context(), **{key: 4}), honest)


def test_an_attack_on_bytes_breaks_the_reply():
    reply = own_app("malformed(fault=no-record)")(instruction(), context())
    assert list(reply.content) == ["m"]


# --- what a mod cannot be ---


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("alie(z=1)", "the honest updates of all clients"),
        ("alie", "the honest updates of all clients and the number of clients"),
        ("sign-flip(of=mean)", "the honest updates of all clients"),
        ("fang-trimmed-mean(known=partial)", "the updates of all attackers"),
        ("model-replacement", "the number of clients"),
        ("label-flip", "a client that trains on other data"),
        ("on-off | backdoor", "a client that trains on other data"),
        ("omniscient", "the gradient over all training data"),
    ],
)
def test_an_attack_that_needs_more_than_one_client_is_refused_at_once(text, lacking):
    message = f"attack is {text!r}, which needs {lacking}"
    with pytest.raises(ValueError, match=re.escape(message)):
        attack_mod(text)


def test_a_text_that_is_no_attack_is_refused_at_once():
    with pytest.raises(ValueError, match="there is no 'sign-flop'"):
        attack_mod("sign-flop")


# --- with Flower's and our own code around it ---

FIT_MODEL = [np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(3, dtype=np.float32)]


class OwnClient(NumPyClient):
    """A user's client for `aggregate_fit` that knows nothing of this package."""

    def fit(self, parameters, config):
        return [array + 1 for array in parameters], 7, {"loss": 0.5}


@pytest.mark.parametrize("keep", [True, False])
def test_an_own_numpy_client_attacks(keep):
    mods = [attack_mod("sign-flip(scale=3)")]
    app = ClientApp(client_fn=lambda context: OwnClient().to_client(), mods=mods)
    content = fitins_to_recorddict(FitIns(ndarrays_to_parameters(FIT_MODEL), {}), keep_input=keep)
    message = Message(content, dst_node_id=1, message_type="train")
    result = recorddict_to_fitres(app(message, context()).content, keep_input=True)
    for array, model in zip(parameters_to_ndarrays(result.parameters), FIT_MODEL, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, model - 3)
    assert (result.num_examples, result.metrics) == (7, {"loss": 0.5})


def test_krum_takes_no_attackers_update():
    strategy = Krum(num_malicious_nodes=1)
    replies = []
    for node in range(1, 8):
        app = own_app("sign-flip(scale=100)") if node == 4 else own_app("sign-flip(scale=0.01)")
        replies.append(app(instruction(), context(node)))
        replies[-1].metadata.__dict__["_src_node_id"] = node
    arrays, _ = strategy.aggregate_train(1, replies)
    np.testing.assert_allclose(arrays["w"].numpy(), MODEL["w"], atol=0.01)


def test_a_model_of_another_memory_order_is_read_rightly():
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    file = io.BytesIO()
    np.save(file, array)
    record = ArrayRecord()
    record["w"] = Array("float32", (2, 3), "numpy.ndarray", file.getvalue())
    message = Message(RecordDict({"arrays": record}), dst_node_id=1, message_type="train")
    found = loaded(own_app("sign-flip", {"w": array + 1})(message, context()))["w"]
    np.testing.assert_array_equal(found, array - 1)
