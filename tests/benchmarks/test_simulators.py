"""One federation in several simulators; what is compared must be the same federation."""

import numpy as np
import pytest

from benchmarks.simulators import BLAZEFL, FLOWER, OURS, Federated, absent, apart, federated


def test_models_of_different_age_are_not_compared():
    one, other = (Federated(OURS, rounds, 1.0, np.zeros(712)) for rounds in (3, 4))
    with pytest.raises(ValueError, match="3 rounds beside 4: models of different age"):
        apart(one, other)


@pytest.mark.slow
def test_models_that_learnt_something_else_are_far_apart():
    model = federated(OURS, 10).model
    drawn = np.random.default_rng(0).standard_normal(model.shape)
    one = Federated(OURS, 10, 1.0, model)
    assert apart(one, one) == 0.0
    assert apart(one, Federated(FLOWER, 10, 1.0, model + 0.01 * drawn)) > 0.01


@pytest.mark.slow  # starts Ray, and processes of its own
@pytest.mark.parametrize("simulator", [FLOWER, BLAZEFL])
def test_the_federation_ends_with_one_model_in_every_simulator(simulator):
    if why := absent(simulator):
        pytest.skip(f"{simulator}: {why}")
    one, other = federated(OURS, 10), federated(simulator, 10)
    assert apart(one, other) < 1e-4


def test_who_is_not_here_is_named_with_the_reason():
    assert absent(OURS) == absent(FLOWER) == ""
    assert "3.1" in absent(BLAZEFL) or absent(BLAZEFL) in ("", "it is not installed")
