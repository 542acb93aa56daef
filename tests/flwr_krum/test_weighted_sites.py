"""The table of docs/weights.md: what one of nine hospitals does to the mean of all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flwr_krum.kernel.shares import capped, largest_cap
from flwr_krum.rules import (
    Average,
    GeometricMedian,
    Median,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)
from tests.flwr_krum.weighted_sites import ATTACKS, SHARES, SIZES, accuracy, worst

PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()

MIXED = NearestNeighborMixing() | TrimmedMean(f=1)
ROWS = {
    "weighted mean": (Average(f=1), None),
    "Multi-Krum, all alike": (MultiKrum(f=1), "alike"),
    "median, all alike": (Median(f=1), "alike"),
    "trimmed mean, all alike": (TrimmedMean(f=1), "alike"),
    "Multi-Krum, no cap": (MultiKrum(f=1), None),
    "Multi-Krum, cap 1/4": (MultiKrum(f=1), 1 / 4),
    "Multi-Krum, cap 1/3": (MultiKrum(f=1), 1 / 3),
    "median, cap 1/4": (Median(f=1), 1 / 4),
    "trimmed mean, cap 1/4": (TrimmedMean(f=1), 1 / 4),
    "geometric median, cap 1/4": (GeometricMedian(f=1), 1 / 4),
    "nnm, trimmed mean, cap 1/4": (MIXED, 1 / 4),
    "trimmed mean, cap 1/3": (TrimmedMean(f=1), 1 / 3),
    "geometric median, cap 1/3": (GeometricMedian(f=1), 1 / 3),
    "nnm, trimmed mean, cap 1/3": (MIXED, 1 / 3),
    "trimmed mean, cap .45": (TrimmedMean(f=1), 0.45),
    "geometric median, cap .45": (GeometricMedian(f=1), 0.45),
}
LEARNED = (
    "weighted mean", "Multi-Krum, all alike", "trimmed mean, all alike", "Multi-Krum, no cap",
    "Multi-Krum, cap 1/4", "Multi-Krum, cap 1/3", "nnm, trimmed mean, cap 1/4",
    "trimmed mean, cap 1/4", "geometric median, cap 1/4",
)  # fmt: skip
ALWAYS = ("weighted mean", "Multi-Krum, all alike", "Multi-Krum, no cap", "Multi-Krum, cap 1/4")


def weighing(rule, cap):
    """Return the map from the sites' models to the aggregate."""
    shares = SHARES if cap is None else None
    if isinstance(cap, float):
        shares = capped(SIZES, largest_cap(SIZES, 1, cap))
    return lambda sites: rule(sites, shares=shares).vector


def told(row):
    """Return the three numbers of a row of the page, as they are printed."""
    (line,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", PAGE, re.MULTILINE)
    return [cell.strip(" *") for cell in line.split("|")]


def measured(row):
    rule = weighing(*ROWS[row])
    return [f"{worst(rule, liar):.3g}" for liar in (None, 8, 0)]


def same(found, printed):
    return [float(x) for x in found] == pytest.approx([float(x) for x in printed], rel=0.02)


@pytest.mark.parametrize("row", ALWAYS)
def test_the_numbers_of_the_page_are_those_of_the_rules(row):
    assert same(measured(row), told(row))


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row not in ALWAYS])
def test_the_other_numbers_of_the_page_are_those_of_the_rules(row):
    assert same(measured(row), told(row))


@pytest.mark.slow
@pytest.mark.parametrize("row", LEARNED)
def test_the_accuracies_of_the_page_are_those_of_the_rules(row):
    found = [accuracy(weighing(*ROWS[row]), attack) for attack in ATTACKS]
    assert found == pytest.approx([float(cell) for cell in told(f"{row}:")], abs=0.2)


def test_declared_weights_keep_the_accuracy_that_counting_all_alike_loses():
    alike, best = (
        accuracy(weighing(*ROWS[row]), "small x -1000", seeds=1)
        for row in ("Multi-Krum, all alike", "Multi-Krum, no cap")
    )
    assert best > alike + 0.5


@pytest.mark.parametrize("row", ROWS)
def test_no_site_does_more_than_the_page_says_on_a_smaller_grid(row):
    rule = weighing(*ROWS[row])
    for liar, printed in zip((8, 0), told(row)[1:], strict=True):
        assert worst(rule, liar, seeds=1, sizes=4) <= float(printed) * 1.02


def test_declared_weights_cost_nothing_without_a_cap_and_save_what_all_alike_loses():
    small = {row: float(told(row)[1]) for row in ALWAYS}
    assert small["Multi-Krum, no cap"] < 0.02 < small["Multi-Krum, cap 1/4"] < 0.1
    assert small["Multi-Krum, all alike"] > 0.16
    assert small["weighted mean"] > 5.0
