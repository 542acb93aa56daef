"""Medians, ratios and projections."""

import pytest

from benchmarks.quartiles import number, project, quartiles, ratio, size


def test_the_median_stands_between_the_quartiles():
    found = quartiles([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert str(found) == "3.00 (2.00-4.00)"


def test_no_runs_have_no_median():
    with pytest.raises(ValueError, match="no values"):
        quartiles([])


def test_a_ratio_takes_every_run_of_one_over_every_run_of_the_other():
    found = ratio([8.0, 12.0], [1.0, 2.0])  # 8, 4, 12, 6
    assert found.median == 7.0
    assert (found.low, found.high) == (5.5, 9.0)


def test_one_slow_run_of_ours_does_not_decide_a_ratio():
    assert ratio([10.0] * 5, [1.0] * 4 + [100.0]).median == 10.0


def test_times_are_projected_from_the_nearest_size():
    measured = {(10, 1000): 1.0, (100, 1000): 50.0}
    assert project(measured, 200, 1000, power=2.0) == pytest.approx(200.0)
    assert project(measured, 10, 3000, power=2.0) == pytest.approx(3.0)
    assert project(measured, 200, 1000, power=1.0) == pytest.approx(100.0)


def test_nothing_measured_is_no_reason_to_skip():
    assert project({}, 10, 1000, power=2.0) == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.049, "0.05"), (9.99, "9.99"), (9.996, "10.0"), (99.96, "100"), (1e4, "10000")],
)
def test_numbers_keep_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(500, "500"), (10_000, "1e4"), (250_000, "2.5e5"), (10_000_000, "1e7")]
)
def test_sizes_are_written_in_short(count, text):
    assert size(count) == text
