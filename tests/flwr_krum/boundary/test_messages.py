from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common import Code, FitRes, Parameters, Status

from flwr_krum.boundary.messages import (
    MOST_RECORDS,
    LetGo,
    Limits,
    claims_of,
    of_message,
    of_result,
    weighed,
    weighed_result,
)
from flwr_krum.boundary.metrics import MOST_METRICS
from flwr_krum.boundary.replies import Reply
from tests.flwr_krum.counted import CountedDict, CountedList
from tests.flwr_krum.federations import FakeProxy, Federation, MessageApi
from tests.flwr_krum.npy_bytes import npy

DATA = npy(np.zeros(10, np.float32))
WEIGHED = Limits(beside=10**9)
EACH = len(DATA) + 128 + 1
API = MessageApi()


def message(arrays, **metrics):
    record = ArrayRecord({k: Array("", (), "numpy.ndarray", data) for k, data in arrays.items()})
    return API.reply(1, RecordDict({"a": record, "m": MetricRecord(metrics)}))


def result(tensors, kind="numpy.ndarray", **metrics):
    return FitRes(Status(Code.OK, ""), Parameters(tensors, kind), 10, metrics)


def test_arrays_come_by_name_or_by_position_as_their_bytes():
    reply = of_message(1, message({"a": DATA, "b": DATA}, loss=0.5), Limits(10**6))
    assert reply == Reply(1, {"a": DATA, "b": DATA}, metrics={"loss": 0.5})
    assert all(data is DATA for data in reply.arrays.values())
    reply = of_result("1", result([DATA, DATA], loss=0.5), Limits(10**6))
    assert reply == Reply("1", [DATA, DATA], metrics={"loss": 0.5, "num-examples": 10})


@pytest.mark.parametrize("short", [0, 1])
def test_a_reply_larger_than_allowed_is_refused_by_its_size(short):
    most = 3 * EACH - short
    problem = f"more than {most} bytes (max_reply_bytes)" if short else ""
    reply = of_message(1, message({"a": DATA, "b": DATA, "c": DATA}, loss=0.5), Limits(most))
    assert (reply.problem, reply.metrics) == (problem, {} if short else {"loss": 0.5})
    reply = of_result(1, result([DATA] * 3), Limits(most - 3))  # without names
    assert reply.problem == problem.replace(str(most), str(most - 3))


def test_empty_arrays_are_not_free():
    sent = message({str(i): b"" for i in range(100)})
    assert of_message(1, sent, Limits(100 * 128)).arrays is None
    assert of_result(1, result([b""] * 100), Limits(99 * 128)).arrays is None


FLOODS = {
    "arrays": lambda k: {"a": ArrayRecord({f"{i:03}": Array("", (), "", b"") for i in range(k)})},
    "short arrays": lambda k: {"a": ArrayRecord({"x": Array("", (), "", bytes(k))})},
    "dtypes": lambda k: {"a": ArrayRecord({"x": Array("f" * k, (), "", b"")})},
    "shapes": lambda k: {"a": ArrayRecord({"x": Array("", (1,) * k, "", b"")})},
    "keys": lambda k: {"a": ArrayRecord({"x" * k: Array("", (), "", b"")})},
    "records": lambda k: {"x" * k: MetricRecord()},
    "metrics": lambda k: {"m": MetricRecord({f"{i:03}": 1.0 for i in range(k)})},
    "numbers": lambda k: {"m": MetricRecord({"x": [1.0] * k})},
    "names": lambda k: {"m": MetricRecord({"x" * k: 1})},
    "texts": lambda k: {"c": ConfigRecord({"x": "y" * k})},
    "many texts": lambda k: {"c": ConfigRecord({"x": [b""] * k})},
}


@pytest.mark.parametrize("what", FLOODS)
def test_what_stays_in_memory_beside_long_arrays_is_counted_and_more_than_legal_is_refused(what):
    few, many = (RecordDict(FLOODS[what](k)) for k in (5, 900))
    large = Limits(beside=10**9)
    each = (weighed(many, large).beside - weighed(few, large).beside) / 895
    assert each in {"arrays": [64 + 3], "shapes": [32], "metrics": [64 + 32 + 3],
                    "numbers": [32], "many texts": [64]}.get(what, [1])  # fmt: skip
    most = Limits(beside=weighed(few, large).beside)
    refusal = f"more than {most.beside} bytes of metrics, configurations and short arrays"
    assert of_message(1, API.reply(1, few), most).problem != refusal
    assert of_message(1, API.reply(1, many), most).problem == refusal


def test_the_same_is_counted_of_a_result():
    sent = result([DATA, bytes(5000)], kind="abc", text="y" * 10, flag=True)
    most = 3 + (64 + len(DATA)) + (64 + 1024) + (64 + 4 + 10) + (64 + 4 + 32)
    assert weighed_result(sent, Limits(beside=10**9)).beside == most
    refusal = f"more than {most - 1} bytes of metrics, configurations and short arrays"
    assert of_result(1, sent, Limits(beside=most - 1)).problem == refusal
    assert of_result(1, sent, Limits(beside=most)).problem.startswith("serialized as 'abc'")


def test_an_entry_after_those_that_fill_the_limit_is_too_many():
    both = {"x": 1.0, "y": 1.0}
    most = Limits(beside=64 + 1 + 32)
    assert weighed_result(result([], kind="", x=1.0), most).problem == ""
    assert "more than 97 bytes" in weighed_result(result([], kind="", **both), most).problem


def test_a_result_whose_metrics_are_no_mapping_is_weighed_all_the_same():
    found = weighed_result(FitRes(Status(Code.OK, ""), Parameters([], "abc"), 1, None), WEIGHED)
    assert (found.problem, found.beside) == ("", 3)


def test_of_what_was_let_go_no_record_is_left():
    content = LetGo("more than 5 bytes")
    assert (dict(content), weighed(content, Limits()).problem) == ({}, "more than 5 bytes")


def test_many_records_are_not_read():
    content = RecordDict({str(i): MetricRecord() for i in range(MOST_RECORDS + 1)})
    assert of_message(1, API.reply(1, content), Limits(10**6)).problem == "more than 100 records"


def test_of_many_metrics_no_more_are_copied_than_show_that_there_are_too_many():
    flood = {f"m{i}": 1.0 for i in range(5 * MOST_METRICS)}
    halves = {k: dict(list(flood.items())[k::2]) for k in (0, 1)}
    content = RecordDict({str(k): MetricRecord(half) for k, half in halves.items()})
    assert len(of_message(1, API.reply(1, content), Limits(10**6)).metrics) == MOST_METRICS + 1
    claims = claims_of(result([], **flood))
    assert len(claims) == MOST_METRICS + 2
    assert claims["num-examples"] == 10


@pytest.mark.parametrize("sent", [None, 5, FitRes(None, None, None, None), result(None)])
def test_what_cannot_be_looked_at_is_a_reply_with_the_reason(sent):
    assert of_result(1, sent, Limits(10**6)).problem.startswith("unreadable reply: ")
    assert of_message(1, sent, Limits(10**6)).problem.startswith("unreadable reply: ")


def test_the_text_of_an_error_stays_on_its_line():
    class Hostile:
        @property
        def content(self):
            raise ValueError("first\nINFO :  all is well\x1b[31m" + "x" * 1000)

    problem = of_message(1, Hostile(), Limits(10**6)).problem
    assert problem.startswith("unreadable reply: ValueError: first\\nINFO :  all is well\\x1b[31m")
    assert problem.isprintable()
    assert len(problem) < 600


# --- through a strategy ---

MODEL = {"w": np.zeros((20, 5), np.float32), "b": np.zeros(5, np.float32)}


def play(federation, hostile, **options):
    """Play a round in which client 1 of seven sends something else than 1s."""
    strategy = federation.strategy("Krum", 1, **options)
    federation.configure(strategy, MODEL, range(1, 8))
    ones = {key: np.ones_like(array) for key, array in MODEL.items()}
    api, sent = federation.api, {c: hostile if c == 1 else ones for c in range(1, 8)}
    if federation.names_arrays:
        replies = [api.reply(c, what) for c, what in sent.items()]
        strategy.aggregate_train(1, replies)
    else:
        results = [(FakeProxy(str(c)), _result_of(api, what)) for c, what in sent.items()]
        strategy.aggregate_fit(1, results, [])
    report = strategy.last_report
    assert report.stepped
    return {refused.client: refused.reason for refused in report.refused}


def _result_of(api, what):
    return what if isinstance(what, FitRes) else api.result(what)


def test_by_default_every_number_may_have_64_bits_and_not_much_more(federation):
    wide = {key: array.astype(np.float64) for key, array in MODEL.items()}
    assert play(federation, wide) == {}
    # (105 floats of 4 bytes, 2 headers, "w" and "b") 8 times and a MiB
    most = 8 * (105 * 4 + 2 * 128 + 2) + 2**20
    reason = f"more than {most} bytes (max_reply_bytes)"
    large = {**MODEL, "b": np.zeros(most // 8)}
    assert play(federation, large) == {federation.name(1): reason}


def test_the_operator_can_set_the_largest_reply(federation):
    large = {**MODEL, "b": np.zeros(5 * 10**5)}
    shapes = "array 'b': shape (500000,), expected (5,)"
    shapes = shapes if federation.names_arrays else shapes.replace("'b'", "'1'")
    assert play(federation, large, max_reply_bytes=10**7) == {federation.name(1): shapes}
    reason = "more than 10000 bytes (max_reply_bytes)"
    assert play(federation, large, max_reply_bytes=10**4) == {federation.name(1): reason}


@pytest.mark.parametrize("in_memory", [True, False])
def test_none_of_too_many_arrays_of_no_bytes_is_looked_at(
    federation, tmp_path, monkeypatch, in_memory
):
    options = {}
    if not in_memory:
        monkeypatch.setattr("flwr_krum.boundary.spill.memory_behind", lambda folder: "")
        options = {"memory": 10**6, "spill": tmp_path}
    names = map(str, range(10**5))
    if federation.names_arrays:
        record = ArrayRecord()  # which would look at every array that is put in
        many = CountedDict.fromkeys(names, Array("", (), "numpy.ndarray", b""))
        vars(record)["_data"] = many
        hostile = RecordDict({"arrays": record})
    else:
        many = CountedList([b""] * 10**5)
        parameters = Parameters(many, "numpy.ndarray")
        hostile = FitRes(Status(Code.OK, ""), parameters, 10, {})
    refused = play(federation, hostile, **options)
    assert "max_reply_bytes" in refused[federation.name(1)]
    assert many.looked_at == 0


@pytest.mark.parametrize("illegal", [0, -1, True, 1.5, "1"])
def test_an_illegal_size_is_named(federation, illegal):
    with pytest.raises(ValueError, match=r"max_reply_bytes is .*, expected an integer >= 1"):
        federation.strategy("Krum", 1, max_reply_bytes=illegal)


def test_the_limit_does_not_depend_on_the_reply_before():
    federation = Federation(MessageApi())
    assert play(federation, MODEL) == play(federation, MODEL) == {}
