from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_krum.boundary import metrics
from flwr_krum.boundary.metrics import MOST_METRICS, Claims
from flwr_krum.rules import Krum, Medoid, MultiKrum, OneMinusPKrum

VALUES = st.floats(-1e6, 1e6)


def trimmed(values, f):
    """Drop the f smallest and largest."""
    kept = sorted(values)[f : len(values) - f]
    return math.fsum(kept) / len(kept)


@given(st.lists(VALUES, min_size=1, max_size=12), st.integers(0, 7))
def test_a_metric_is_the_trimmed_mean_over_clients_if_liars_are_a_minority(values, f):
    found = Claims([{"loss": v} for v in values], f).trimmed_means()
    if len(values) <= 2 * f:
        assert found == {}
    else:
        assert found["loss"] == pytest.approx(trimmed(values, f), rel=1e-12, abs=1e-9)


@given(st.lists(VALUES, min_size=3, max_size=9), st.lists(st.floats(), max_size=4))
def test_f_clients_cannot_move_a_metric_beyond_the_others(honest, lies):
    if len(honest) <= len(lies):
        return
    reports = [{"loss": v} for v in honest + lies]
    found = Claims(reports, len(lies)).trimmed_means().get("loss")
    if all(map(math.isfinite, lies)):
        assert found is not None
    if found is not None:
        assert min(honest) - 1e-6 <= found <= max(honest) + 1e-6


def test_lists_are_averaged_element_by_element():
    reports = [{"x": [1.0, 10.0]}, {"x": [2.0, 20.0]}, {"x": [30.0, 0.0]}]
    assert Claims(reports, 1).trimmed_means() == {"x": [2.0, 10.0]}
    assert Claims(reports, 0).trimmed_means() == {"x": [11.0, 10.0]}


@pytest.mark.parametrize(
    "lie",
    [
        float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), "0.5", b"1", None, True,
        [], [1.0], [1.0, float("nan")], ["a"], [[1.0]], {"a": 1}, object(),
    ],
)  # fmt: skip
def test_what_is_not_a_finite_number_is_dropped(lie):
    reports = [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}, {"loss": lie}]
    assert Claims(reports, 0).trimmed_means() == {"loss": 2.0}
    assert Claims(reports[::-1], 0).trimmed_means() == {"loss": 2.0}


def test_a_list_of_another_length_is_dropped():
    reports = [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}, {"x": [5.0, 9.0]}]
    others = [{"x": [9.0]}, {"x": [9.0] * 100}]
    assert Claims(reports + others, 0).trimmed_means() == {"x": [3.0, 5.0]}


def test_a_list_of_one_is_not_a_number():
    assert Claims([{"x": [1.0]}, {"x": [3.0]}, {"x": 100.0}], 0).trimmed_means() == {"x": [2.0]}
    assert Claims([{"x": 1.0}, {"x": 3.0}, {"x": [100.0]}], 0).trimmed_means() == {"x": 2.0}


def test_only_what_most_clients_report_is_kept():
    reports = [{"a": 1.0, "b": 1.0}, {"a": 2.0, "evil": 9.0}, {"a": 3.0}, {"b": 5.0}]
    assert Claims(reports, 0).trimmed_means() == {"a": 2.0}


def test_values_near_the_largest_float_do_not_overflow():
    big = 1.7e308
    found = Claims([{"x": big}, {"x": big}, {"x": big}], 0).trimmed_means()["x"]
    assert found == pytest.approx(big, rel=1e-12)


def test_whole_numbers_are_numbers():
    assert Claims([{"x": 1}, {"x": 2}], 0).trimmed_means() == {"x": 1.5}


def test_no_reports_are_no_metrics():
    assert Claims([], 3).trimmed_means() == {}
    assert Claims([{}, {}], 3).trimmed_means() == {}


# --- no client can steer a mean ---


@pytest.mark.parametrize("lie", [1e300, -1e300, 1.7e308, 1e7])
def test_one_client_moves_nothing_beyond_the_honest_at_f_1(lie):
    honest = [{"loss": v} for v in (0.5, 0.6, 0.7, 0.8)]
    for place in range(5):
        reports = [*honest[:place], {"loss": lie}, *honest[place:]]
        found = Claims(reports, 1).trimmed_means()["loss"]
        assert found == pytest.approx(0.7 if lie > 0 else 0.6)


def test_a_medoid_trusts_the_median_alone():
    for n in range(1, 12):
        values = [float(i) for i in range(n)]
        cut = Medoid().liars(n)
        found = Claims([{"x": v} for v in values], cut).trimmed_means()["x"]
        assert found == statistics.median(values)


@pytest.mark.parametrize("liars", [1, 2, 3])
def test_no_minority_moves_a_medoids_metrics(liars):
    reports = [{"x": 1.0}] * (liars + 1) + [{"x": 1e300}] * liars
    assert Claims(reports, Medoid().liars(len(reports))).trimmed_means() == {"x": 1.0}


@pytest.mark.parametrize("rule", [Krum(2), MultiKrum(2), OneMinusPKrum(2)])
def test_the_rules_of_krum_fear_f_liars_however_few_reports_there_are(rule):
    assert [rule.liars(n) for n in (3, 7, 20)] == [2, 2, 2]


# --- doubts ---

SOUND = {"num-examples": 10, "loss": 0.5}


def doubt_of(hostile, others=(SOUND,) * 4):
    """Return what is said of the report in the middle of sound ones."""
    reports = [*others[:2], hostile, *others[2:]]
    found = Claims(reports, 0).doubts("num-examples")
    assert set(found) <= {2}
    return found.get(2)


def test_sound_reports_are_not_doubted():
    assert doubt_of(SOUND) is None
    assert Claims([], 0).doubts("num-examples") == {}
    assert Claims([{}, {}], 0).doubts("num-examples") == {}


DOUBTS = {
    "zero": (SOUND | {"num-examples": 0}, "'num-examples' is 0, expected more than 0"),
    "negative": (SOUND | {"num-examples": -60}, "'num-examples' is -60, expected more than 0"),
    "absurd": (SOUND | {"num-examples": 1001}, "'num-examples' is 1001, the median is 10"),
    "NaN count": (
        SOUND | {"num-examples": math.nan},
        "metric 'num-examples' is nan, expected finite numbers",
    ),
    "too large for a float": (
        SOUND | {"loss": 10**400},
        "metric 'loss' is 1000000000000000000000000000000000000000, expected finite numbers",
    ),
    "too long to print": (
        SOUND | {"loss": 10**5000},
        "metric 'loss' is a number too long to print, expected finite numbers",
    ),
    "NaN": (SOUND | {"loss": math.nan}, "metric 'loss' is nan, expected finite numbers"),
    "Inf": (SOUND | {"loss": -math.inf}, "metric 'loss' is -inf, expected finite numbers"),
    "NaN in a list": (
        SOUND | {"loss": [1.0, math.nan]},
        "metric 'loss' is [1.0, nan], expected finite numbers",
    ),
    "empty list": (SOUND | {"loss": []}, "metric 'loss' is [], expected finite numbers"),
    "None": (SOUND | {"loss": None}, "metric 'loss' is None, expected finite numbers"),
    "list": (
        SOUND | {"loss": [1.0, 2.0]},
        "metric 'loss' is a list of 2, most send a number",
    ),
    "unknown": (SOUND | {"evil": 1.0}, "metric 'evil' is unknown to most"),
    "missing loss": ({"num-examples": 10}, "metric 'loss' is missing"),
    "missing count": ({"loss": 0.5}, "metric 'num-examples' is missing"),
    "nothing": ({}, "metric 'loss' is missing"),
    "a long name": (
        SOUND | {"x" * 1000: math.nan},
        "a metric's name of more than 200 characters: none is read",
    ),
    "a long list": (
        SOUND | {"loss": [math.nan] * 1000},
        "metric 'loss' is [nan, nan, nan, nan, nan, nan, nan, nan,, expected finite numbers",
    ),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_what_is_wrong_with_a_report_is_said(case):
    hostile, reason = DOUBTS[case]
    assert doubt_of(hostile) == reason


def test_a_list_of_another_length_and_a_number_for_a_list_are_doubted():
    usual = [{"x": [1.0, 2.0]}] * 4
    assert doubt_of({"x": [1.0]}, usual) == "metric 'x' is a list of 1, most send a list of 2"
    assert doubt_of({"x": 1.0}, usual) == "metric 'x' is a number, most send a list of 2"


@pytest.mark.parametrize("value", ["text", b"bytes", True, False])
def test_text_and_truth_values_are_legal_beside_numbers(value):
    # A NumPyClient may report them; they are not averaged.
    assert doubt_of(SOUND | {"device": value}) is None


def test_a_hundred_times_the_median_is_not_absurd_yet():
    assert doubt_of(SOUND | {"num-examples": 1000}) is None
    assert doubt_of(SOUND | {"num-examples": 1}) is None


def test_one_absurd_count_does_not_cast_doubt_on_the_others():
    found = Claims([SOUND] * 4 + [SOUND | {"num-examples": 10**15}], 0).doubts("num-examples")
    assert list(found) == [4]


def test_the_count_may_have_another_name():
    reports = [{"rows": 10}] * 4 + [{"rows": 0}]
    assert Claims(reports, 0).doubts("rows") == {4: "'rows' is 0, expected more than 0"}
    assert Claims(reports, 0).doubts("num-examples") == {}


METRIC = st.one_of(
    st.floats(), st.integers(), st.just(10**400), st.sampled_from(["", "nan", "1.0"]), st.none(),
    st.booleans(), st.lists(st.floats(), max_size=3), st.just(["1.0"]),
)  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from("abc"), METRIC), max_size=6), st.integers(0, 3))
def test_no_reports_at_all_can_raise_or_give_a_metric_that_is_not_a_number(reports, f):
    for text in Claims(reports, 0).doubts("a").values():
        assert 0 < len(text) < 200
    for value in Claims(reports, f).trimmed_means().values():
        for number in value if isinstance(value, list) else [value]:
            assert type(number) is float
            assert number == number


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
    found = Claims([SOUND, SOUND, report, SOUND], 0).doubts("num-examples")
    assert list(found) == [2]
    assert doubt in found[2]


def test_one_client_cannot_move_a_metric_beyond_the_others():
    honest = [{"loss": 0.1 * i} for i in range(1, 7)]
    for claim in (1e300, -1e300, float("inf"), 0.35):
        loss = Claims([*honest, {"loss": claim}], 1).trimmed_means()["loss"]
        assert 0.1 <= loss <= 0.6


# --- what a report may cost ---


def deep(levels):
    nested = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "value",
    [deep(100_000), [deep(100_000)], {"a": deep(100_000)}, ["x" * 10**6] * 50, "x" * 10**6,
     {i: i for i in range(10**5)}, [10**5000], [True] * 50, (1.0, 2.0), {1.0}],
)  # fmt: skip
def test_deep_and_long_values_are_told_in_short(value):
    found = Claims([SOUND, SOUND, SOUND | {"loss": value}, SOUND], 1)
    assert found.trimmed_means()["loss"] == 0.5
    for text in found.doubts("num-examples").values():
        assert text.startswith("metric 'loss' is ")
        assert len(text) < 120


@pytest.mark.parametrize(("value", "kind"), [([[1.0]], "list"), ({"a": 1.0}, "dict")])
def test_what_is_nested_is_told_by_its_kind(value, kind):
    doubts = Claims([SOUND, SOUND, SOUND | {"loss": value}], 0).doubts("num-examples")
    assert doubts == {
        2: f"metric 'loss' is a {kind} that holds more than numbers, expected finite numbers"
    }


def test_a_huge_count_is_told_in_short():
    found = Claims([SOUND] * 4 + [SOUND | {"num-examples": 10**300}], 1).doubts("num-examples")
    assert found[4] == f"'num-examples' is 1{'0' * 39}, the median is 10"


def test_a_metric_that_no_more_than_f_clients_hold_as_numbers_is_not_named_as_dropped():
    texts = [{"colour": "red"}] * 3
    assert Claims([*texts, {"colour": 1.0}], 1).dropped("num-examples") == ()
    assert len(Claims([*texts, *[{"colour": 1.0}] * 2], 1).dropped("num-examples")) == 1


def test_so_many_dropped_metrics_are_named_and_the_others_counted():
    reports = [{f"m{i}": 1.0 for i in range(100)}] * 4 + [{}] * 5
    dropped = Claims(reports, 0).dropped("num-examples")
    assert len(dropped) == 21
    assert dropped[0] == (
        "metric 'm0' dropped: 4 of 9 replies hold it as a number, at least 5 are needed"
    )
    assert dropped[20] == "80 more metrics dropped"


def test_what_liars_invent_is_not_read(monkeypatch):
    read = []
    numbers = metrics._numbers
    monkeypatch.setattr(metrics, "_numbers", lambda value: read.append(value) or numbers(value))
    honest = [{"loss": 0.5}] * 52
    flood = [{f"{liar}-{i}": [1.0] * 10 for i in range(MOST_METRICS)} for liar in range(48)]
    claims = Claims(honest + flood, 48)
    assert read == [0.5] * 52
    assert claims.trimmed_means() == {}
    assert claims.dropped("n") == (
        "metric 'loss' dropped: 52 of 100 replies hold it as a number, at least 97 are needed",
    )
    assert len(claims.doubts("num-examples")) == 48


@pytest.mark.parametrize(("honest", "liars"), [(9, 4), (12, 8), (7, 7)])
@pytest.mark.parametrize("seed", range(20))
def test_a_metric_lies_among_honest_values_or_is_dropped_whatever_f_clients_do(honest, liars, seed):
    rng = np.random.default_rng(seed)
    kinds = [lambda x: x, lambda x: [x], lambda x: [x, x]]
    values = rng.uniform(0.4, 0.6, honest)
    reports = [{"auc": kinds[rng.integers(0, 2)](float(v))} for v in values]
    reports = [report if rng.random() < 0.8 else {} for report in reports]
    lie = kinds[rng.integers(0, 3)](float(rng.choice([1e308, -1e308, 0.0])))
    reports += [{"auc": lie}] * liars
    found = Claims(reports, liars).trimmed_means().get("auc", [])
    for value in found if isinstance(found, list) else [found]:
        assert values.min() <= value <= values.max()


@pytest.mark.filterwarnings("error")
def test_counts_near_the_largest_float_do_not_warn():
    Claims([{"n": 1e308}] * 4, 0).doubts("n")
