import math
from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.resilience import (
    angle,
    eta,
    eta_squared,
    max_byzantine,
    required_clients,
    sin_alpha,
)
from flwr_krum.rules import Average, Krum, Medoid, MultiKrum


@pytest.mark.parametrize(
    ("n", "f", "squared"),
    [
        # By hand: 2 (n - f + (f (n - f - 2) + f^2 (n - f - 1)) / (n - 2f - 2)).
        (3, 0, Fraction(6)),  # 2 (3 + 0)
        (10, 0, Fraction(20)),
        (5, 1, Fraction(18)),  # 2 (4 + (1*2 + 1*3) / 1)
        (6, 1, Fraction(17)),  # 2 (5 + (1*3 + 1*4) / 2)
        (7, 2, Fraction(54)),  # 2 (5 + (2*3 + 4*4) / 1)
        (15, 5, Fraction(590, 3)),
        (20, 6, Fraction(208)),
        (40, 18, Fraction(7208)),
    ],
)
def test_eta_is_the_closed_form_of_proposition_1(n, f, squared):
    assert eta_squared(n, f) == squared
    assert eta(n, f) == pytest.approx(math.sqrt(squared), rel=1e-15)


@pytest.mark.parametrize(
    ("n", "f", "rounded"), [(15, 5, 14.0), (20, 6, 14.4), (20, 7, 18.9), (40, 18, 84.9)]
)
def test_eta_has_the_values_that_the_experiments_quote(n, f, rounded):
    assert round(eta(n, f), 1) == rounded


def test_eta_grows_as_n_where_f_does_and_as_its_root_where_f_is_fixed():
    shares = [eta(n, n // 4) / n for n in (100, 1_000, 10_000, 100_000)]
    fixed = [eta(n, 2) / math.sqrt(n) for n in (100, 1_000, 10_000, 100_000)]
    # f = n/4: eta^2 -> 2 (n/4)^2 (3n/4) / (n/2) = 3/16 n^2; f fixed: eta^2 -> 2 n.
    assert shares[-1] == pytest.approx(math.sqrt(3 / 16), rel=1e-3)
    assert fixed[-1] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert np.ptp(shares[1:]) < 0.01
    assert np.ptp(fixed[1:]) < 0.02


@pytest.mark.parametrize(
    ("n", "f", "message"),
    [
        (20, 9, "n=20, f=9; legal: f <= 8"),
        (2, 0, "n=2, f=0"),
        (20, -1, "f is -1, expected an integer >= 0"),
        (20.0, 1, "n is 20.0, expected an integer >= 1"),
        (20, True, "f is True, expected an integer >= 0"),
    ],
)
def test_an_illegal_n_or_f_is_named(n, f, message):
    with pytest.raises(ValueError, match=message):
        eta(n, f)


def test_sin_alpha_is_eta_times_noise_over_gradient():
    sine = sin_alpha(20, 6, d=50, sigma=0.01, grad_norm=2.0)
    assert sine == pytest.approx(math.sqrt(208) * math.sqrt(50) * 0.01 / 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, "d is .*, expected an integer >= 1"),
        ({"sigma": -1.0}, "sigma must be a finite number >= 0"),
        ({"sigma": math.nan}, "sigma must be a finite number >= 0"),
        ({"grad_norm": 0.0}, "grad_norm must be a finite number > 0"),
    ],
)
def test_an_illegal_argument_of_sin_alpha_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        sin_alpha(20, 6, **{"d": 5, "sigma": 1.0, "grad_norm": 1.0, **change})


def test_the_angle_exists_below_one_only():
    assert angle(0.5) == pytest.approx(30.0)
    assert angle(0.0) == 0.0
    assert angle(1.0) is None
    with pytest.raises(ValueError, match="got nan"):
        angle(math.nan)


def test_required_clients_and_max_byzantine_are_each_others_inverse():
    for f in range(50):
        n = required_clients(f)
        assert max_byzantine(n) == f
        assert max_byzantine(n + 1) == f
        Krum(f).check(n)
        if f:  # nobody lies among two clients of which none does
            with pytest.raises(ValueError, match="needs"):
                Krum(f).check(n - 1)


def test_max_byzantine_depends_on_the_rule():
    assert max_byzantine(20, MultiKrum(0)) == 8
    assert max_byzantine(20, Average()) == 0
    assert max_byzantine(20, Medoid()) == 9
    with pytest.raises(ValueError, match="got n=2"):
        max_byzantine(2)
