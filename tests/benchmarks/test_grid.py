"""Cells run what fits, skip what does not, and say why."""

from dataclasses import replace

import pytest

from benchmarks.data import draw
from benchmarks.floor import READ, floor_seconds
from benchmarks.grid import Limits, measure_cell
from benchmarks.measure import Patience
from benchmarks.peers import LEGACY, NUMPY, contestants
from benchmarks.results import Result

LIMITS = Limits(Patience(0.0, 3), krum_cap=5.0, cap=1.0)
PRESENT = {name: contestants()[0][name] for name in (NUMPY, LEGACY)}


def by_name(results, task):
    return {r.name: r for r in results if r.task == task}


def test_a_cell_has_everybody_and_the_floor():
    results = measure_cell(draw(8, 1000), ("krum", "average"), PRESENT, [], LIMITS)
    assert set(by_name(results, "krum")) == {NUMPY, LEGACY}
    assert set(by_name(results, "average")) == {NUMPY, LEGACY}
    assert set(by_name(results, "floor")) == {READ}
    assert all(len(r.cpu) >= 3 and min(r.wall) > 0 for r in results)
    assert all(r.same for r in results if r.task != "floor")


def test_a_rule_that_a_library_lacks_is_not_measured():
    results = measure_cell(draw(8, 1000), ("medoid",), PRESENT, [], LIMITS)
    assert set(by_name(results, "medoid")) == {NUMPY}


def test_another_result_than_ours_is_noticed():
    legacy = PRESENT[LEGACY]
    rules = {"average": lambda results, f: results[0][0]}
    present = {**PRESENT, LEGACY: replace(legacy, rules=rules)}
    results = by_name(measure_cell(draw(8, 1000), ("average",), present, [], LIMITS), "average")
    assert results[NUMPY].same is True
    assert results[LEGACY].same is False


def test_what_would_take_too_long_is_skipped_with_its_projection():
    slow = Result("krum", 4, 1000, 20, 1, LEGACY, (2.0,), (2.0,))
    results = measure_cell(draw(8, 1000), ("krum",), PRESENT, [slow], LIMITS)
    assert by_name(results, "krum")[LEGACY].skipped == "skipped: projected 8 s"
    assert not by_name(results, "krum")[LEGACY].cpu
    assert by_name(results, "krum")[NUMPY].cpu


def test_times_on_all_cores_project_nothing_for_one():
    slow = Result("krum", 4, 1000, 20, 2, LEGACY, (2.0,), (2.0,))
    results = measure_cell(draw(8, 1000), ("krum",), PRESENT, [slow], LIMITS)
    assert by_name(results, "krum")[LEGACY].cpu


def test_what_does_not_fit_into_memory_is_skipped(monkeypatch):
    monkeypatch.setattr("benchmarks.grid.available_bytes", lambda: 40_000)
    results = measure_cell(draw(8, 1000), ("krum",), PRESENT, [], LIMITS)
    assert by_name(results, "krum")[LEGACY].skipped == "skipped: needs 0 GB"
    assert by_name(results, "krum")[NUMPY].cpu


@pytest.mark.parametrize(("n", "expected"), [(10, 0.5), (1000, 1.0)])
def test_the_floor_is_the_larger_of_reading_and_multiplying(n, expected):
    assert floor_seconds(0.5, n, 1000, flops=1e9) == pytest.approx(expected)
