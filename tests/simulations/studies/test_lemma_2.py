from __future__ import annotations

import pytest

from simulations.studies.lemma_2 import exponents, fit


def test_a_power_law_is_fitted_exactly():
    sizes = [10, 20, 40, 80]
    fitted = fit(sizes, [3.0 * size**1.7 for size in sizes])
    assert fitted.exponent == pytest.approx(1.7)
    assert fitted.error == pytest.approx(0.0, abs=1e-9)


def test_krums_time_grows_at_most_with_the_square_of_n_and_with_d():
    over_n, over_d = exponents(ns=(20, 40, 80, 160), ds=(100_000, 200_000, 400_000), d=20_000)
    # Wide margins: a shared machine; the tight figure is that of `python -m simulations cost`.
    assert 0.8 < over_n.exponent < 2.4
    assert 0.6 < over_d.exponent < 1.4
