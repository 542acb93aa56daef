from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_krum.metrics import doubts, trimmed_mean_metrics

VALUES = st.floats(-1e6, 1e6)


def trimmed(values, f):
    """Drop the f smallest and largest; where none would be left, keep the median or two."""
    ordered = sorted(values)
    while f > 0 and len(ordered) > 2:
        ordered, f = ordered[1:-1], f - 1
    return math.fsum(ordered) / len(ordered)


@given(st.lists(VALUES, min_size=1, max_size=12), st.integers(0, 7))
def test_a_metric_is_the_trimmed_mean_over_clients(values, f):
    found = trimmed_mean_metrics([{"loss": v} for v in values], f)["loss"]
    assert found == pytest.approx(trimmed(values, f), rel=1e-12, abs=1e-9)


@given(st.lists(VALUES, min_size=3, max_size=9), st.lists(st.floats(), max_size=4))
def test_f_clients_cannot_move_a_metric_beyond_the_others(honest, lies):
    if len(honest) <= len(lies):
        return
    reports = [{"loss": v} for v in honest + lies]
    found = trimmed_mean_metrics(reports, len(lies)).get("loss")
    assert found is not None
    assert min(honest) - 1e-6 <= found <= max(honest) + 1e-6


def test_lists_are_averaged_element_by_element():
    reports = [{"x": [1.0, 10.0]}, {"x": [2.0, 20.0]}, {"x": [30.0, 0.0]}]
    assert trimmed_mean_metrics(reports, 1) == {"x": [2.0, 10.0]}
    assert trimmed_mean_metrics(reports, 0) == {"x": [11.0, 10.0]}


@pytest.mark.parametrize(
    "lie",
    [
        float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), "0.5", b"1", None, True,
        [], [1.0], [1.0, float("nan")], ["a"], [[1.0]], {"a": 1}, object(),
    ],
)  # fmt: skip
def test_what_is_not_a_finite_number_is_dropped(lie):
    reports = [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}, {"loss": lie}]
    assert trimmed_mean_metrics(reports, 0) == {"loss": 2.0}
    assert trimmed_mean_metrics(reports[::-1], 0) == {"loss": 2.0}


def test_a_list_of_another_length_is_dropped():
    reports = [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}, {"x": [9.0]}, {"x": [9.0] * 100}]
    assert trimmed_mean_metrics(reports, 0) == {"x": [2.0, 3.0]}


def test_a_list_of_one_is_not_a_number():
    assert trimmed_mean_metrics([{"x": [1.0]}, {"x": [3.0]}, {"x": 100.0}], 0) == {"x": [2.0]}
    assert trimmed_mean_metrics([{"x": 1.0}, {"x": 3.0}, {"x": [100.0]}], 0) == {"x": 2.0}


def test_only_what_most_clients_report_is_kept():
    reports = [{"a": 1.0, "b": 1.0}, {"a": 2.0, "evil": 9.0}, {"a": 3.0}, {"b": 5.0}]
    assert trimmed_mean_metrics(reports, 0) == {"a": 2.0}


def test_values_near_the_largest_float_do_not_overflow():
    big = 1.7e308
    found = trimmed_mean_metrics([{"x": big}, {"x": big}, {"x": big}], 0)["x"]
    assert found == pytest.approx(big, rel=1e-12)


def test_whole_numbers_are_numbers():
    assert trimmed_mean_metrics([{"x": 1}, {"x": 2}], 0) == {"x": 1.5}


def test_no_reports_are_no_metrics():
    assert trimmed_mean_metrics([], 3) == {}
    assert trimmed_mean_metrics([{}, {}], 3) == {}


SOUND = {"num-examples": 10, "loss": 0.5}


@pytest.mark.parametrize(
    ("report", "doubt"),
    [
        ({}, "metric 'loss' is missing"),
        ({"num-examples": 10}, "metric 'loss' is missing"),
        ({**SOUND, "loss": float("nan")}, "metric 'loss' is nan, expected finite numbers"),
        ({**SOUND, "loss": 10**5000}, "metric 'loss' is a number too long to print"),
        ({**SOUND, "loss": [0.5]}, "metric 'loss' is a list of 1, most send a number"),
        ({**SOUND, "extra": 1}, "metric 'extra' is unknown to most"),
        ({**SOUND, "num-examples": 0}, "'num-examples' is 0, expected more than 0"),
        ({**SOUND, "num-examples": -60}, "'num-examples' is -60, expected more than 0"),
        ({**SOUND, "num-examples": 10**15}, "'num-examples' is 1000000000000000, the median is 10"),
    ],
)
def test_what_is_wrong_with_a_report_is_said_by_position(report, doubt):
    found = doubts([SOUND, SOUND, report, SOUND], "num-examples")
    assert list(found) == [2]
    assert doubt in found[2]


def test_sound_reports_are_not_doubted():
    assert doubts([SOUND, {**SOUND, "loss": 3.0}, {**SOUND, "num-examples": 900}], "n") == {}
    assert doubts([], "num-examples") == {}


def test_one_client_cannot_move_a_metric_beyond_the_others():
    honest = [{"loss": 0.1 * i} for i in range(1, 7)]
    for claim in (1e300, -1e300, float("inf"), 0.35):
        loss = trimmed_mean_metrics([*honest, {"loss": claim}], f=1)["loss"]
        assert 0.1 <= loss <= 0.6
