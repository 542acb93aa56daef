from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flwr_krum.kernel.counters import lower_median
from flwr_krum.kernel.updates import BLOCK

RANGES = {
    np.int8: (-128, 128),
    np.uint16: (0, 2**16),
    np.int64: (-(2**63), 2**63),  # beyond what a float holds
    np.uint64: (0, 2**64),
    np.bool_: (0, 2),
}


def brute(layers):
    """Sort each coordinate's values as Python numbers and take the lower one in the middle."""
    rows = zip(*(layer.ravel().tolist() for layer in layers), strict=True)
    middle = [sorted(values)[(len(layers) - 1) // 2] for values in rows]
    return np.array(middle, layers[0].dtype).reshape(layers[0].shape)


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 20, 64, 65, 66, 101])
def test_it_is_the_lower_of_the_values_in_the_middle(n, dtype):
    rng = np.random.default_rng(n)
    low, high = RANGES[dtype]
    wide = np.uint64 if high > 2**63 else np.int64
    layers = [rng.integers(low, high, (3, 5), wide).astype(dtype) for _ in range(n)]
    found = lower_median(layers, np.dtype(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, brute(layers))


def test_layers_longer_than_a_block_in_any_order_and_of_other_widths():
    rng = np.random.default_rng(0)
    shape = (BLOCK // 4 + 3, 9)
    layers = [rng.integers(-100, 100, shape) for _ in range(6)]
    mixed = [np.asfortranarray(layers[0]), layers[1].astype(np.int8), *layers[2:]]
    np.testing.assert_array_equal(lower_median(mixed, np.dtype(np.int64)), brute(layers))


@pytest.mark.parametrize("n", [20, 100])
def test_no_client_layer_is_copied_and_none_is_changed(n):
    layers = [np.full(50 * BLOCK, i) for i in range(n)]
    tracemalloc.start()
    found = lower_median(layers, np.dtype(np.int64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.nbytes + 4 * n * BLOCK * 8
    assert all((layer == i).all() for i, layer in enumerate(layers))


def test_empty_and_scalar_layers_keep_their_shape():
    assert lower_median([np.zeros((0, 3), int)] * 3, np.dtype(int)).shape == (0, 3)
    found = lower_median([np.array(k) for k in (5, 9, 7)], np.dtype(int))
    assert (found.shape, found.item()) == ((), 7)
