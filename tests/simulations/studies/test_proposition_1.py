import numpy as np
import pytest

from flwr_krum.attacks import Gaussian, SignFlip
from flwr_krum.rules import Average, Krum
from simulations.studies.proposition_1 import Cloud, lemma_1, measure, measure_attacks

# Proposition 1 is a bound on an expectation: each check below is wrong with a chance under 0.2 %
# (three standard errors, one side) even if the truth lay on the bound itself.


@pytest.mark.parametrize(
    ("n", "f", "d", "sine"),
    [
        (7, 1, 10, 0.9),
        (20, 6, 50, 0.5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((11, 4, 30, 0.5), (20, 8, 20, 0.95), (30, 3, 100, 0.2))
        ),
    ],
)
def test_where_the_condition_holds_krum_respects_the_bound_under_every_attack(n, f, d, sine):
    unit = Cloud(n, f, d, sigma=1.0).sine
    cloud = Cloud(n, f, d, sigma=sine / unit)
    assert cloud.sine == pytest.approx(sine)
    results = measure_attacks(Krum(f), cloud, draws=300)
    assert len(results) == 3
    for result in results:
        assert result.respects(cloud.bound), result
        # Condition (ii): the moments stay within those of the honest estimator, up to a constant.
        assert max(result.moments) < 4.0


def test_the_search_finds_an_attack_that_the_papers_two_are_not():
    cloud = Cloud(20, 6, 50, 0.005)
    gauss, omniscient, searched = measure_attacks(Krum(6), cloud, draws=200)
    assert searched.alignment < gauss.alignment - 0.02
    assert searched.alignment < omniscient.alignment - 0.02
    assert searched.chosen > 0.3
    assert gauss.chosen == omniscient.chosen == 0.0


def test_the_measurement_can_say_no():
    cloud = Cloud(20, 6, 50, 0.005)
    rng = np.random.default_rng(0)
    captured = measure(Average(), cloud, "", SignFlip(100.0, of="mean"), 50, rng)
    assert not captured.respects(cloud.bound)
    assert captured.angle(cloud) == 90.0


def test_without_noise_and_attack_the_mean_answer_is_the_gradient():
    cloud = Cloud(20, 6, 5, sigma=0.0, grad_norm=2.0)
    result = measure(Krum(6), cloud, "", Gaussian(), 20, np.random.default_rng(0))
    assert result.alignment == pytest.approx(4.0)
    assert result.moments == pytest.approx((1.0, 1.0, 1.0))
    assert result.angle(Cloud(20, 6, 5, 0.0, 2.0)) == pytest.approx(0.0, abs=1e-6)


def test_one_client_steers_the_average_anywhere_and_not_krum():
    for seed in range(20):
        error, honest = lemma_1(d=50, seed=seed)
        assert error <= 1e-5
        assert honest
