from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flwr_krum.boundary.replies import Refused
from flwr_krum.guarantee import Guarantee
from flwr_krum.report import RoundReport


def test_a_report_reads_as_lines_of_what_happened():
    report = RoundReport(
        server_round=3,
        rule="Krum(f=1, strict=True)",
        byzantine=1,
        received=("1", "2", "9"),
        refused=(Refused("10", "array 'w': holds NaN"),),
        failed={"11": "timeout"},
        silent=("12", "13"),
        selected=("9",),
        stepped=True,
    )
    assert report.lines() == [
        "Krum(f=1, strict=True): 3 accepted, 1 refused, 1 failed, 2 silent",
        "refused 10: array 'w': holds NaN",
        "failed 11: timeout",
        "silent: 12, 13, who did not answer in time",
        "selected: 9",
    ]


def test_a_report_says_why_the_model_stayed():
    lines = RoundReport(1, "Medoid()", 0, note="no reply was accepted").lines()
    assert lines[1:] == ["no reply was accepted", "the global model stays as it is"]


def test_a_report_tells_of_quarantine_and_doubted_metrics():
    report = RoundReport(
        1, "Medoid()", 0, received=(1, 2), quarantined=(7, 8), doubted={2: "'n' is 0"},
        selected=(1,), stepped=True,
    )  # fmt: skip
    assert report.lines()[1:] == [
        "in quarantine: 7, 8",
        "metrics of 2: 'n' is 0",
        "selected: 1",
    ]


QUIET = RoundReport(1, "Medoid()", 0, received=(1,), selected=(1,), stepped=True)
LOUD = {
    "a note": {"note": "got n=4, f=1"},
    "a refusal": {"refused": (Refused(2, "no arrays"),)},
    "a failure": {"failed": {4: "a disk is full"}},
    "silence": {"silent": (3,)},
    "a doubt": {"doubted": {1: "'n' is 0"}},
    "no step": {"stepped": False},
}


def test_an_ordinary_round_is_not_remarkable():
    assert not QUIET.is_remarkable()


@pytest.mark.parametrize("what", LOUD)
def test_a_round_that_an_operator_should_see_is_remarkable(what):
    assert RoundReport(**vars(QUIET) | LOUD[what]).is_remarkable()


# --- to JSON and back ---

# Whatever JSON must escape, and what looks like a number.
LETTERS = st.sampled_from(
    ["a", "0", "7", " ", '"', "\\", "\n", "\x00", "é", "\u2028", "\ud800", "𝔸"]
)


def text(size):
    return st.text(LETTERS, max_size=size)


CLIENT = st.one_of(st.integers(0, 2**64 - 1), text(8))
CLIENTS = st.lists(CLIENT, max_size=4, unique_by=repr).map(tuple)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def by_client(values):
    return st.lists(st.tuples(CLIENT, values), max_size=4, unique_by=repr).map(dict)


REPORTS = st.builds(
    RoundReport,
    server_round=st.integers(1, 10**6),
    rule=text(30),
    byzantine=st.integers(0, 100),
    needed=st.one_of(st.none(), st.integers(1, 100)),
    received=CLIENTS,
    refused=st.lists(st.builds(Refused, CLIENT, text(40)), max_size=3).map(tuple),
    failed=by_client(text(20)),
    silent=CLIENTS,
    quarantined=CLIENTS,
    barred=CLIENTS,
    bars=st.lists(text(5), max_size=4).map(tuple),
    doubted=by_client(text(20)),
    scores=by_client(st.floats(0, allow_nan=False)),
    selected=CLIENTS,
    weights=by_client(st.floats(0, 1)),
    metrics=st.dictionaries(text(5), st.one_of(FINITE, st.lists(FINITE, max_size=3))),
    stepped=st.booleans(),
    note=text(20),
    seconds=st.dictionaries(st.sampled_from(["intake", "rule", "step"]), FINITE),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine: reports are large
@given(REPORTS)
def test_a_report_survives_json_with_the_types_of_its_ids(report):
    text = json.dumps(report.to_json(), allow_nan=False)
    found = RoundReport.from_json(json.loads(text))
    assert found == report
    assert list(map(type, found.received)) == list(map(type, report.received))
    assert list(map(type, found.scores)) == list(map(type, report.scores))
    assert found.lines() == report.lines()


def test_slack_is_what_was_accepted_beyond_what_the_rule_needs():
    assert RoundReport(1, "r", 1, needed=5, received=(1, 2, 3)).slack == -2
    assert RoundReport(1, "r", 1, received=(1, 2, 3)).slack is None


def test_a_number_of_needed_replies_that_is_none_is_no_report():
    with pytest.raises(TypeError, match="needed is '5', expected int or null"):
        RoundReport.from_json(RoundReport(1, "r", 0).to_json() | {"needed": "5"})


def test_a_number_and_its_text_are_two_clients():
    report = RoundReport(1, "r", 0, scores={1: 2.0, "1": 3.0})
    assert RoundReport.from_json(report.to_json()).scores == {1: 2.0, "1": 3.0}


def test_an_infinite_score_is_null_in_json():
    values = RoundReport(1, "r", 0, scores={1: math.inf, 2: 0.5}).to_json()
    assert values["scores"] == [[1, None], [2, 0.5]]
    assert RoundReport.from_json(values).scores == {1: math.inf, 2: 0.5}


def test_to_json_leaves_the_report_as_it_is():
    report = RoundReport(1, "r", 0, refused=(Refused(1, "x"),), scores={1: math.inf})
    report.to_json()
    assert report.refused == (Refused(1, "x"),)
    assert report.scores == {1: math.inf}


@pytest.mark.parametrize("field", ["server_round", "rule", "byzantine", "refused", "received"])
def test_values_that_lack_a_field_are_no_report(field):
    values = RoundReport(1, "r", 0).to_json()
    del values[field]
    with pytest.raises((KeyError, TypeError, ValueError)):
        RoundReport.from_json(values)


@pytest.mark.parametrize(
    "guarantee",
    [
        Guarantee("holds", 20, 6, 14.4, 0.01, 1.0, 0.144, 0.02),
        Guarantee("does not hold", 20, 6, 14.4, 1.0, 0.0, None, math.inf),
        Guarantee("cannot be known", 20, 9, reason="illegal"),
    ],
)
def test_a_guarantee_survives_json(guarantee):
    report = RoundReport(1, "Krum(f=6)", 6, guarantee=guarantee, stepped=True)
    line = json.dumps(report.to_json(), allow_nan=False)
    assert RoundReport.from_json(json.loads(line)) == report


@pytest.mark.parametrize(
    ("guarantee", "number"),
    [("cannot be known", -1.0), ("does not hold", 0.0), ("holds", 1.0)],
)
def test_metrics_carry_the_verdict_as_a_number(guarantee, number):
    report = RoundReport(1, "", 1, guarantee=Guarantee(guarantee, 5, 1, sin_alpha=0.3))
    assert report.guarantee_metrics() == {"guarantee": number, "sin-alpha": 0.3}
