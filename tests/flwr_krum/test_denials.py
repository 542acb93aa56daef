"""Ways in which one client, or a few, once cost a round, a run or minutes."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest

from flwr_krum.attacks import FAULTS
from flwr_krum.boundary.intake import admit
from flwr_krum.boundary.metrics import Claims
from flwr_krum.boundary.records import to_record
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.template import Template
from flwr_krum.journal import Journal, JournalError, read_journal
from flwr_krum.report import RoundReport
from flwr_krum.round import Rounds
from flwr_krum.rules import ClientUpdates, Krum, Medoid
from tests.flwr_krum.federations import MessageApi, sent_array
from tests.flwr_krum.npy_bytes import forge, forged_header, npy

API = MessageApi()


# two float64 colluders in a float32 federation stall the round (Krum, Multi-Krum)
def test_colluders_apart_by_less_than_a_normal_float_do_not_stall_a_round():
    rng = np.random.default_rng(0)
    d = 10_000
    models = [[(1e-2 * rng.standard_normal(d)).astype(np.float32)] for _ in range(7)]
    models[0], models[1] = [np.full(d, 1e-310)], [np.full(d, 2e-310)]
    updates = ClientUpdates.from_layers(models, [np.zeros(d, np.float32)])
    start = time.perf_counter()
    Krum(2)(updates)
    assert time.perf_counter() - start < 0.5


# one client stalls the server with long, valid, different headers
def test_long_headers_do_not_stall_the_intake():
    def header(i):
        return forged_header(shape=f"(1,), 'x': [{i}{',{}' * 1250}]")

    replies = {f"k{i}": forge(header(i), bytes(4)) for i in range(300)}  # 1.2 MB
    start = time.perf_counter()
    admit([Reply(1, replies)], Template.of({"w": np.zeros(3, np.float32)}))
    assert time.perf_counter() - start < 0.2


# one client floods log and journal
def test_a_reason_is_short_however_long_the_key():
    for data in (b"x", np.zeros(1)):
        data = data if isinstance(data, bytes) else b""
        (refused,) = admit([Reply(1, {"k" * 1_000_000: data})]).refused
        assert len(refused.reason) < 400


def test_the_reason_of_a_foreign_serialization_is_short():
    from flwr.app import ArrayRecord, RecordDict

    array = sent_array(npy(np.zeros(1)), "pickle")
    content = RecordDict({"arrays": ArrayRecord({"k" * 1_000_000: array})})
    strategy = API.module.Krum(num_malicious_nodes=0)
    strategy.aggregate_train(1, [API.reply(1, content)])
    assert len(strategy.reports[-1].refused[0].reason) < 400


def test_the_text_of_an_error_is_short(federation):
    strategy = federation.strategy("Krum", 0)
    federation.aggregate(strategy, {1: RuntimeError("x" * 1_000_000)})
    (text,) = strategy.reports[-1].failed.values()
    assert len(text) < 1000


# a file that is no journal is emptied
@pytest.mark.parametrize("text", ['{"precious": 1}', "one line without a line end"])
def test_a_file_that_is_no_journal_is_not_written_over(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(JournalError):
        Journal(path)
    assert path.read_text() == text


# damage that is not a JournalError
@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        json.dumps({**RoundReport(1, "r", 0).to_json(), "server_round": "1"}),
    ],
)
def test_any_damaged_line_is_a_journal_error(tmp_path, line):
    path = tmp_path / "j"
    path.write_text(f"{line}\n{json.dumps(RoundReport(2, 'r', 0).to_json())}\n")
    with pytest.raises(JournalError, match="line 1"):
        Journal(path, 2)


# most clients at the largest float: the mean is infinite and the journal raises
def test_a_mean_of_the_largest_floats_does_not_end_the_run(tmp_path):
    top = np.finfo(np.float64).max.item()
    data = {"w": npy(np.zeros(1))}
    replies = [Reply(i, data, metrics={"loss": top}) for i in range(3)]
    with warnings.catch_warnings(action="ignore"):
        _, report = Rounds(Krum(0), journal=tmp_path / "j").finish(1, replies)
    assert read_journal(tmp_path / "j") == [report]


# the guarantee of float64 models near the largest float: the journal raises
@pytest.mark.filterwarnings("ignore")
def test_a_guarantee_that_overflows_can_be_journaled(tmp_path):
    values = [[1.7e308] * 3] * 5 + [[1.0, 1.1, 0.9], [1.1, 0.9, 1.0]]
    rounds = Rounds(Krum(1), journal=tmp_path / "j")
    rounds.begin({"w": np.ones(3)}, range(7))
    rounds.finish(1, [Reply(i, {"w": npy(np.array(v))}) for i, v in enumerate(values)])
    assert len(read_journal(tmp_path / "j")) == 1


# the contrast says "no error" of a distance whose square underflows
def test_the_medoid_among_vectors_whose_squares_underflow_is_exact():
    V = np.array(
        [
            [9.241120367011457e-181], [-0.0003592629380835823], [0.5705157312751826],
            [1.6115890898926154e-180], [2.833969406582865e-180], [-9.232646653032858e-201],
            [1.0650737311362373], [0.5177406291981792],
        ]
    )  # fmt: skip
    # Of eight numbers both middle ones, 3 and 4, have the smallest sum: the first wins.
    assert Medoid()(V).selected == (3,)  # got 4


# faults that raise in the client instead of going out (an error reply: red-teaming lulls)
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
    from flwr.app import MetricRecord, RecordDict

    content = RecordDict({"a": to_record(model), "m": MetricRecord({"num-examples": 1})})
    FAULTS[fault](content)


# warnings that a client can write into the server's log
@pytest.mark.filterwarnings("error")
def test_counts_near_the_largest_float_do_not_warn():
    Claims([{"n": 1e308}] * 4).doubts("n")


def test_a_hostile_header_does_not_warn():
    bad = forge(forged_header(shape="(1and 2,)"), bytes(4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        admit([Reply(1, {"w": bad})])
    assert caught == []


# reported scores of a Medoid are all infinite beside one float64 vector of 1e155 or more
def test_the_scores_beside_a_giant_are_numbers():
    V = np.arange(7.0)[:, None]
    V[0] = 1e200
    assert np.isfinite(Medoid()(V).scores).all()
