"""Exponents are found again in made-up times."""

import numpy as np
import pytest

from benchmarks.growth import growth, power_law
from benchmarks.measure import Patience
from benchmarks.peers import NUMPY, contestants

SIZES = (100, 200, 400, 800, 1600)


@pytest.mark.parametrize("exponent", [0.9, 1.0, 2.0])
def test_an_exact_power_law_is_found_with_no_doubt(exponent):
    found, half_width = power_law(SIZES, [3e-6 * size**exponent for size in SIZES])
    assert found == pytest.approx(exponent)
    assert half_width < 1e-9


def test_the_interval_covers_the_truth_in_95_of_100_noisy_runs():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        seconds = np.array(SIZES) * np.exp(0.05 * rng.standard_normal(len(SIZES)))
        found, half_width = power_law(SIZES, seconds.tolist())
        covered += abs(found - 1.0) <= half_width
    assert 925 <= covered <= 975


def test_two_sizes_prove_nothing():
    with pytest.raises(ValueError, match="at least 3"):
        power_law((1, 2), (1.0, 2.0))


def test_growth_keeps_what_it_measured():
    present, _ = contestants()
    found = growth(present[NUMPY], "d", (500, 1000, 2000), 6, Patience(0.0, 3))
    assert (found.name, found.over, found.fixed) == (NUMPY, "d", 6)
    assert found.sizes == (500, 1000, 2000)
    assert len(found.seconds) == 3
    assert min(found.seconds) > 0
