import numpy as np
import pytest

from simulations.figures.bands import band_of, band_words, by_seed


def test_few_seeds_have_a_band_from_least_to_greatest():
    band = band_of({seed: {0.0: y, 10.0: 2 * y} for seed, y in enumerate([0.3, 0.1, 0.2])})
    assert band.x.tolist() == [0, 10]
    assert band.median.tolist() == [0.2, 0.4]
    assert (band.low.tolist(), band.high.tolist()) == ([0.1, 0.2], [0.3, 0.6])
    assert band_words([3]) == "median and least to greatest of 3 seeds"


def test_five_seeds_have_a_band_of_quartiles():
    band = band_of({seed: {0.0: y} for seed, y in enumerate([0.5, 0.1, 0.4, 0.2, 0.3])})
    assert (band.low[0], band.median[0], band.high[0]) == pytest.approx((0.2, 0.3, 0.4))
    assert band_words([5], folds=4) == "median and quartiles of 5 seeds, each the mean of 4 folds"
    assert band_words([1]) == "one seed"
    assert band_words([10], first_seed=5) == "median and quartiles of 10 seeds from 5 on"
    assert band_words([1], first_seed=5) == "one seed from 5 on"
    assert band_words([9, 12, 9]) == "median and quartiles of 9 to 12 seeds"
    assert band_words([3, 24]) == (
        "median and band (quartiles from 5 seeds on, else least to greatest) of 3 to 24 seeds"
    )


def test_only_what_all_seeds_have_is_drawn():
    assert band_of({0: {0.0: 1.0, 10.0: 1.0}, 1: {0.0: 1.0}}).x.tolist() == [0]


def test_along_a_sweep_every_point_is_of_the_seeds_that_have_it():
    more = {seed: {1.0: y} for seed, y in enumerate([0.5, 0.1, 0.4, 0.2, 0.3])}
    more[0][3.0], more[1][3.0] = 0.9, 0.7
    band = band_of(more, is_swept=True)
    assert band.x.tolist() == [1, 3]
    assert band.median == pytest.approx([0.3, 0.8])
    assert band.low == pytest.approx([0.2, 0.7])  # quartiles of five, the least of two
    assert band.high == pytest.approx([0.4, 0.9])


def test_along_rounds_folds_of_a_seed_are_averaged(rows):
    made = rows("a", lambda s, t: 0.2, 2, 20) + rows("a", lambda s, t: 0.6, 2, 20, fold=1)
    values = by_seed(made, "accuracy")
    assert sorted(values) == [0, 1]
    assert values[0] == pytest.approx({0: 0.4, 10: 0.4, 20: 0.4})


def test_along_a_sweep_a_point_is_the_mean_error_over_the_window(rows):
    made = [
        row for b in (3.0, 10.0) for row in rows("a", lambda s, t, b=b: t / 100 / b, 1, swept=b)
    ]
    values = by_seed(made, "error", (50, 70))
    assert values[0] == pytest.approx({3.0: 1 - 0.6 / 3, 10.0: 1 - 0.06})
    assert np.array(list(values)).tolist() == [0]
