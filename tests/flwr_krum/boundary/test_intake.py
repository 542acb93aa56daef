from __future__ import annotations

import itertools
import pickle
import time
import warnings

import numpy as np
import pytest

from flwr_krum.boundary import intake as intake_module
from flwr_krum.boundary.intake import admit, decode_model
from flwr_krum.boundary.npy import UndecodableError
from flwr_krum.boundary.replies import Refused, Reply, client_order
from flwr_krum.boundary.template import Template
from tests.flwr_krum.npy_bytes import forge, forged_header, npy

MODEL = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32), "k": np.array(0)}
TEMPLATE = Template.of(MODEL)


@pytest.fixture
def reply():
    def build(client, **arrays):
        data = {k: v if isinstance(v, bytes) else npy(v) for k, v in arrays.items()}
        return Reply(client, data)

    return build


def like_model(value, **instead):
    arrays = {key: np.full_like(array, value) for key, array in MODEL.items()}
    return {**arrays, **instead}


def test_a_reply_can_be_sent_to_another_process(reply):
    for sent in (Reply(1, None), reply(2, **like_model(1.0))):
        assert pickle.loads(pickle.dumps(sent)) == sent


# --- order ---


def test_clients_are_ordered_by_number_and_written_numbers_count_as_numbers(reply):
    ids = [10, "9", 2, "11", "beta", "alpha", "100", 1]
    intake = admit([reply(c, **like_model(1)) for c in ids], TEMPLATE)
    assert intake.clients == (1, 2, "9", 10, "11", "100", "alpha", "beta")


def test_the_order_of_arrival_changes_nothing(reply):
    replies = [reply(c, **like_model(i)) for i, c in enumerate(["9", "10", "x", "2"])]
    replies.append(reply("3", w=np.zeros(2)))
    intakes = [admit(order, TEMPLATE) for order in itertools.permutations(replies)]
    assert len({(i.clients, i.refused) for i in intakes}) == 1
    for intake in intakes:
        assert [m[0][0, 0] for m in intake.updates.models] == [3, 0, 1, 2]


@pytest.mark.parametrize("name", ["", "-1", "1.5", "²", "9" * 5000, "\ud800", "٣"])
def test_every_name_can_be_ordered(name):
    assert sorted([name, 5, "7"], key=client_order)[0] in (5, "٣")


# --- what is accepted ---


def test_arrays_are_matched_by_key_and_laid_out_in_the_order_of_the_model(reply):
    w, b, k = np.ones((2, 3), np.float32), np.full(3, 2, np.float32), np.array(3)
    replies = [
        reply(i, **dict(order))
        for i, order in enumerate(itertools.permutations({"w": w, "b": b, "k": k}.items()))
    ]
    intake = admit(replies, TEMPLATE)
    assert intake.keys == ("w", "b", "k")
    assert not intake.refused
    for model in intake.updates.models:
        for layer, expected in zip(model, (w, b, k), strict=True):
            np.testing.assert_array_equal(layer, expected)


def test_the_models_are_views_on_the_replies(reply):
    sent = reply(1, **like_model(5))
    intake = admit([sent], TEMPLATE)
    for key, layer in zip(intake.keys, intake.updates.models[0], strict=True):
        assert np.shares_memory(layer, np.frombuffer(sent.arrays[key], np.uint8))


def test_the_reference_is_the_global_model(reply):
    intake = admit([reply(1, **like_model(5))], TEMPLATE)
    for layer, key in zip(intake.updates.reference, intake.keys, strict=True):
        assert layer is MODEL[key]
    assert admit([reply(1, **like_model(5))]).updates.reference is None


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_another_width_of_float_is_accepted(reply, dtype):
    intake = admit([reply(1, **like_model(1, b=np.ones(3).astype(dtype)))], TEMPLATE)
    assert intake.clients == (1,)


def test_another_width_of_integer_is_accepted_if_its_values_fit(reply):
    template = Template.of({"k": np.array([0], np.int8), "w": np.zeros(1)})
    counts = {1: np.array([127]), 2: np.array([128])}
    intake = admit([reply(i, k=k, w=np.zeros(1)) for i, k in counts.items()], template)
    assert intake.clients == (1,)
    assert intake.refused == (Refused(2, "array 'k': values from 128 to 128 do not fit into int8"),)


def test_empty_and_scalar_arrays_are_accepted(reply):
    model = {"e": np.zeros((0, 3)), "s": np.array(1.0)}
    sent = reply(1, e=np.zeros((0, 3)), s=np.array(2.0))
    assert admit([sent], Template.of(model)).clients == (1,)


# --- what is refused ---

FLOATS = np.ones(3, np.float32)
BAD = {
    "NaN": ({"b": np.array([0, np.nan, 0], np.float32)}, "array 'b': holds NaN"),
    "Inf": ({"b": np.array([0, np.inf, 0], np.float32)}, "array 'b': holds Inf"),
    "minus Inf": ({"b": np.array([0, -np.inf, 0], np.float32)}, "array 'b': holds Inf"),
    "one coordinate of many": (
        {"w": np.array([[0, 0, 0], [0, 0, np.nan]], np.float32)},
        "array 'w': holds NaN",
    ),
    "beyond float32": ({"b": np.array([0, 1e39, 0])}, "array 'b': values from 0.0 to 1e+39"),
    "far beyond float32": ({"b": np.array([-1e300, 0, 0])}, "do not fit into float32"),
    "another size": ({"b": np.ones(4, np.float32)}, r"array 'b': shape (4,), expected (3,)"),
    "transposed": (
        {"w": np.ones((3, 2), np.float32)},
        "array 'w': shape (3, 2), expected (2, 3)",
    ),
    "flattened": ({"w": np.ones(6, np.float32)}, "array 'w': shape (6,), expected (2, 3)"),
    "a scalar": ({"b": np.float32(1)}, "array 'b': shape (), expected (3,)"),
    "integers for floats": (
        {"b": np.ones(3, int)},
        "array 'b': dtype int64, expected the kind of float32",
    ),
    "floats for integers": (
        {"k": np.array(1.0)},
        "array 'k': dtype float64, expected the kind of int64",
    ),
    "unsigned for signed": ({"k": np.array(1, np.uint64)}, "dtype uint64"),
    "bool for integers": ({"k": np.array(True)}, "dtype bool, expected the kind of int64"),
    "an extra key": ({"z": FLOATS}, "keys differ from the model's: unknown 'z'"),
    "many extra keys": (
        {f"x{i}": FLOATS for i in range(50)},
        "unknown 'x0', 'x1', 'x10' and 47 more",
    ),
    "a very long key": ({"k" * 10_000: FLOATS}, "unknown '" + "k" * 60 + "'"),
    "garbage": ({"b": b"garbage"}, "array 'b': not an npy array"),
    "nothing": ({"b": b""}, "array 'b': not an npy array"),
    "complex": ({"b": np.ones(3, complex)}, "array 'b': dtype '<c16'"),
    "strings": ({"b": np.array(["a"] * 3)}, "array 'b': dtype '<U1'"),
    "objects": ({"b": np.array([{}] * 3, dtype=object)}, "array 'b': dtype '|O'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_reply_that_does_not_fit_is_refused_with_the_reason(reply, case):
    instead, reason = BAD[case]
    good = [reply(i, **like_model(i)) for i in (1, 2, 4)]
    intake = admit([*good, reply(3, **like_model(0, **instead))], TEMPLATE)
    assert intake.clients == (1, 2, 4)
    assert [refused.client for refused in intake.refused] == [3]
    assert reason in intake.refused[0].reason
    assert len(intake.refused[0].reason) < 400
    alone = admit([reply(3, **like_model(0, **instead))], TEMPLATE)
    assert alone.updates is None
    assert alone.refused == intake.refused


@pytest.mark.parametrize("case", ["NaN", "another size", "garbage", "an extra key"])
def test_without_a_global_model_the_majority_decides_what_fits(reply, case):
    instead, reason = BAD[case]
    good = [reply(i, **like_model(i)) for i in (2, 3, 4)]
    intake = admit([reply(1, **like_model(0, **instead)), *good])
    assert intake.clients == (2, 3, 4)
    assert [refused.client for refused in intake.refused] == [1]
    assert reason in intake.refused[0].reason


HOSTILE_TEXTS = {
    "a shape of many long lengths": forge(forged_header("'<f4'", f"(0, {f'{2**47}, ' * 31})")),
    "a claim of many digits": forge(forged_header("'<f4'", f"({f'{2**47}, ' * 32})")),
    "a dtype of several lines": forge(forged_header("'\n\x1b[31m<f4'")),
}


@pytest.mark.parametrize("case", HOSTILE_TEXTS)
def test_a_reason_is_short_and_on_one_line_whatever_a_header_claims(reply, case):
    (refused,) = admit([reply(1, **like_model(0, b=HOSTILE_TEXTS[case]))], TEMPLATE).refused
    assert refused.reason.startswith("array 'b': ")
    assert refused.reason.isprintable()
    assert len(refused.reason) <= 600


@pytest.mark.parametrize("name", ["w\nINFO all is well", "\x1b[31mw", "\u202ew", "w" * 10**6, ""])
def test_a_key_is_quoted_and_cut_in_a_reason(reply, name):
    (refused,) = admit([reply(1, **{name: np.zeros(3)})], TEMPLATE).refused
    assert f"unknown {name[:60]!r}" in refused.reason
    assert refused.reason.isprintable()
    assert len(refused.reason) < 400


def test_nothing_is_decoded_of_a_reply_with_keys_that_do_not_travel(reply, monkeypatch):
    decoded = []
    monkeypatch.setattr(intake_module, "decode", lambda *sent: decoded.append(sent))
    (refused,) = admit([reply(1, **like_model(0, z=b"garbage"))], TEMPLATE).refused
    assert refused.reason == "keys differ from the model's: unknown 'z'"
    assert decoded == []


def test_a_missing_key_is_named(reply):
    arrays = like_model(0)
    del arrays["b"]
    whole = [reply(i, **like_model(i)) for i in (2, 3)]
    intake = admit([reply(1, **arrays), *whole], TEMPLATE, liars=1)
    assert intake.refused == (Refused(1, "keys differ from the model's: missing 'b'"),)
    assert "missing 'b', 'k', 'w'" in admit([reply(1)], TEMPLATE).refused[0].reason


def test_a_renamed_key_is_both_missing_and_unknown(reply):
    arrays = like_model(0)
    arrays["B"] = arrays.pop("b")
    reason = admit([reply(1, **arrays)], TEMPLATE).refused[0].reason
    assert reason == "keys differ from the model's: missing 'b' unknown 'B'"


def test_a_reply_without_arrays_is_refused_with_its_problem():
    intake = admit([Reply(1, None, "2 ArrayRecords, expected 1"), Reply(2, None)], TEMPLATE)
    assert intake.refused == (Refused(1, "2 ArrayRecords, expected 1"), Refused(2, "no arrays"))
    assert intake.updates is None
    assert intake.clients == ()


def test_a_client_that_sends_twice_is_refused_once_and_loses_both(reply):
    twice = [reply(2, **like_model(9)), reply(2, **like_model(9))]
    intake = admit([*twice, reply(1, **like_model(1)), reply(3, **like_model(3))], TEMPLATE)
    assert intake.clients == (1, 3)
    assert intake.refused == (Refused(2, "2 replies in one round, expected 1"),)


def test_refused_clients_are_ordered_by_id(reply):
    replies = [reply(c, b=b"") for c in ("10", "9", "x", "2")]
    refused = admit([*replies, reply("1", **like_model(0))], TEMPLATE).refused
    assert [r.client for r in refused] == ["2", "9", "10", "x"]


def test_without_a_global_model_one_client_cannot_choose_the_order_of_keys(reply):
    a, b = np.zeros(2), np.ones(2)
    replies = [reply(1, b=a, a=b), *(reply(i, a=a, b=b) for i in (2, 3))]
    intake = admit(replies)
    assert intake.keys == ("a", "b")
    np.testing.assert_array_equal(intake.updates.models[0][0], b)


def test_without_a_global_model_equal_camps_follow_the_smallest_id(reply):
    replies = [reply("10", x=np.zeros(2)), reply("9", x=np.zeros(3))]
    assert admit(replies).clients == ("9",)
    assert admit(replies[::-1]).clients == ("9",)


def test_no_replies_are_no_updates():
    assert admit([], TEMPLATE).updates is None
    assert admit([]).keys == ()


def test_a_reason_is_short_however_long_the_header():
    bad = forge(forged_header(descr=f"'{'f' * 3900}'"))
    reason = admit([Reply(1, {"w": bad})]).refused[0].reason
    assert len(reason) < 400


@pytest.mark.timed
def test_long_headers_do_not_stall_the_intake():
    def header(i):
        return forged_header(shape=f"(1,), 'x': [{i}{',{}' * 1250}]")

    replies = {f"k{i}": forge(header(i), bytes(4)) for i in range(300)}  # 1.2 MB
    seconds = []
    for _ in range(3):
        start = time.process_time()
        admit([Reply(1, replies)], Template.of({"w": np.zeros(3, np.float32)}))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2


def test_a_reason_is_short_however_long_the_key():
    for data in (b"x", b""):
        (refused,) = admit([Reply(1, {"k" * 1_000_000: data})]).refused
        assert len(refused.reason) < 400


def test_a_hostile_header_does_not_warn():
    bad = forge(forged_header(shape="(1and 2,)"), bytes(4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        admit([Reply(1, {"w": bad})])
    assert caught == []


# --- the server's own model ---


def test_the_servers_own_model_is_decoded_and_its_faults_are_named():
    model = decode_model({"w": npy(np.arange(3.0))})
    np.testing.assert_array_equal(model["w"], np.arange(3.0))
    with pytest.raises(UndecodableError, match="global model, array 'w': not an npy array"):
        decode_model({"w": b"x"})
