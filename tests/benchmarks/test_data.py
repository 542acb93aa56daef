"""The rounds that are measured are what they say."""

import numpy as np
import pytest

from benchmarks.data import BYZANTINE, STEP, draw, layer_sizes


@pytest.mark.parametrize(("d", "layers"), [(10_000, 4), (100_000, 122), (20, 20), (7, 3), (5, 1)])
def test_layers_add_up_and_none_is_empty(d, layers):
    sizes = layer_sizes(d, layers)
    assert len(sizes) == layers
    assert sum(sizes) == d
    assert min(sizes) >= 1


def test_layers_are_of_very_uneven_size():
    sizes = layer_sizes(1_000_000, 20)
    assert max(sizes) > 100 * min(sizes)
    assert sizes[0] > sizes[1] < sizes[2]


def test_more_layers_than_coordinates_are_refused():
    with pytest.raises(ValueError, match="expected 1 <= layers <= d"):
        layer_sizes(3, 4)


def test_layers_are_views_of_the_vectors():
    case = draw(5, 1000, layers=20)
    for row, model in zip(case.rows, case.models, strict=True):
        assert np.array_equal(np.concatenate(model), row)
        assert all(np.shares_memory(layer, row) for layer in model)
        assert row.dtype == np.float32


def test_the_same_seed_draws_the_same_numbers():
    one, same, other = draw(5, 100), draw(5, 100), draw(5, 100, seed=1)
    assert np.array_equal(one.rows, same.rows)
    assert not np.array_equal(one.rows, other.rows)


def test_the_last_f_are_far_away_and_the_others_differ_in_noise_unless_iid():
    case = draw(10, 20_000)
    spreads = np.std([row - case.base for row in case.rows], axis=1)
    assert case.f == 2
    assert np.allclose(spreads[8:], BYZANTINE, rtol=0.05)
    # Common step plus own noise of a half to two steps.
    expected = STEP * np.sqrt(1 + np.geomspace(0.5, 2.0, 8) ** 2)
    assert np.allclose(np.sort(spreads[:8]), expected, rtol=0.05)
    alike = draw(10, 20_000, kind="iid")
    alike_spreads = np.std([row - alike.base for row in alike.rows[:8]], axis=1)
    assert np.allclose(alike_spreads, STEP * np.sqrt(2), rtol=0.05)
