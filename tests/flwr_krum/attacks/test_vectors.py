from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.attacks import steering_vector


def test_any_fixed_weights_can_be_steered():
    rng = np.random.default_rng(0)
    for n in (2, 5, 20):
        weights = rng.uniform(0.1, 2.0, n) * rng.choice([-1.0, 1.0], n)
        others, target = rng.standard_normal((n - 1, 30)), 1e4 * rng.standard_normal(30)
        sent = np.vstack([others, steering_vector(others, target, weights)])
        np.testing.assert_allclose(weights @ sent, target, rtol=1e-5)


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.0], [1.0, 1.0, 1.0]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="expected 2 weights, the last not 0"):
        steering_vector(np.ones((1, 3)), np.zeros(3), weights)
