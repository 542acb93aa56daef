import math

import numpy as np
import pytest

from flwr_krum.attacks import steering_vector
from flwr_krum.attacks.vectors import gaussian, reversed_mean
from flwr_krum.resilience import eta
from flwr_krum.rules import Average, Krum
from simulations.studies.lemma_2 import exponents, fit
from simulations.studies.proposition_1 import Cloud, lemma_1, measure, survey

# Proposition 1 is a bound on an expectation: each check below is wrong with a chance under 0.2 %
# (three standard errors, one side) even if the truth lay on the bound itself.


@pytest.mark.parametrize(
    ("n", "f", "d", "sine"),
    [(7, 1, 10, 0.9), (11, 4, 30, 0.5), (20, 6, 50, 0.5), (20, 8, 20, 0.95), (30, 3, 100, 0.2)],
)
def test_where_the_condition_holds_krum_respects_the_bound_under_every_attack(n, f, d, sine):
    unit = Cloud(n, f, d, sigma=1.0).sine
    cloud = Cloud(n, f, d, sigma=sine / unit)
    assert cloud.sine == pytest.approx(sine)
    results = survey(Krum(f), cloud, draws=300)
    assert len(results) == 3
    for result in results:
        assert result.respects(cloud.bound), result
        # Condition (ii): the moments stay within those of the honest estimator, up to a constant.
        assert max(result.moments) < 4.0


def test_the_search_finds_an_attack_that_the_papers_two_are_not():
    cloud = Cloud(20, 6, 50, 0.005)
    gauss, omniscient, searched = survey(Krum(6), cloud, draws=200)
    assert searched.alignment < gauss.alignment - 0.02
    assert searched.alignment < omniscient.alignment - 0.02
    assert searched.chosen > 0.3
    assert gauss.chosen == omniscient.chosen == 0.0


def test_the_measurement_can_say_no():
    cloud = Cloud(20, 6, 50, 0.005)
    rng = np.random.default_rng(0)
    captured = measure(Average(), cloud, "", reversed_mean(100.0), 50, rng)
    assert not captured.respects(cloud.bound)
    assert captured.angle(cloud) == 90.0


def test_without_noise_and_attack_the_mean_answer_is_the_gradient():
    cloud = Cloud(20, 6, 5, sigma=0.0, grad_norm=2.0)
    result = measure(Krum(6), cloud, "", gaussian(), 20, np.random.default_rng(0))
    assert result.alignment == pytest.approx(4.0)
    assert result.moments == pytest.approx((1.0, 1.0, 1.0))
    assert result.angle(Cloud(20, 6, 5, 0.0, 2.0)) == pytest.approx(0.0, abs=1e-6)


def test_one_client_steers_the_average_anywhere_and_not_krum():
    for seed in range(20):
        error, honest = lemma_1(d=50, seed=seed)
        assert error <= 1e-5
        assert honest


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


def test_the_two_regimes_of_eta_flatten_out():
    # Where f is a share of n it grows as n, where it is not as sqrt(n).
    for f, growth in ((lambda n: n // 4, lambda n: n), (lambda n: 2, math.sqrt)):
        values = [eta(n, f(n)) / growth(n) for n in (1_000, 10_000)]
        assert values[1] == pytest.approx(values[0], rel=0.01)


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
