"""The attacks on inputs whose rows were worked out by independent loops, to 1e-11.

H are the first seven rows of the input B in tests/flwr_krum/rules/test_conformance.py, n = 9 and
f = 2; they are models where a global model w is named.
"""

import numpy as np
import pytest

from flwr_krum.attacks import (
    ALIE,
    IPM,
    FangTrimmedMean,
    Mimic,
    MinMax,
    MinSum,
    ModelReplacement,
    SignFlip,
    Takeover,
)
from flwr_krum.attacks.little_is_enough import z_max
from flwr_krum.attacks.mimic import top_direction

H = np.array([(2.4, 1.8), (0.3, 3.1), (2.8, 0.9), (2.1, -3.8), (-2, -2.1), (1.7, 3.7), (-4, 0)])
W = np.array([0.5, -1.0])
MU = np.array([0.471428571429, 0.514285714286])

ROWS = {
    "the mean, reversed": (SignFlip(of="mean"), (-0.4714285714285714, -0.5142857142857145)),
    "ipm": (IPM(2), (-0.9428571428571428, -1.028571428571429)),
    "alie": (ALIE(1.5), (-3.3740697243527618, -3.563791563760189)),
    "alie, plus": (ALIE(1.5, "plus"), (4.316926867209904, 4.592362992331617)),
    "alie, ddof 0": (ALIE(1.5, ddof=0), (-3.08881104445, -3.26128019815)),
    "alie of n and f": (ALIE(), (0.009937063923634082, 0.024882810939829914)),
    "min-max": (MinMax(), (-2.3854499279308827, -2.602309012288237)),
    "min-max, sign": (MinMax("sign"), (-2.541332589625043, -2.4984754467679)),
    "min-max, std": (MinMax("std"), (-2.4361535159078755, -2.569149391491872)),
    "min-sum": (MinSum(bound="min"), (-1.094802726137024, -1.1943302466949357)),
    "min-sum, sign": (MinSum("sign", bound="min"), (-1.1675419865119667, -1.1246848436548238)),
    "min-sum, std": (MinSum("std", bound="min"), (-1.1187487522982682, -1.1720668759802673)),
    "takeover": (Takeover(10), (43.35, 43.2)),
    "mimic": (Mimic(), (1.7, 3.7)),
    "mimic, magnitude": (Mimic(of="magnitude"), (-2, -2.1)),
    "mimic, the first": (Mimic(index=0), (2.4, 1.8)),
}


@pytest.mark.parametrize("case", ROWS)
def test_the_row_is_that_of_an_independent_loop(case):
    attack, expected = ROWS[case]
    rows = attack(H, 2, n=9)
    np.testing.assert_allclose(rows, [expected, expected], rtol=0, atol=1e-11)


FACTORS = {
    "min-max": (MinMax(), 4.227873868720647, "unit"),
    "min-max, sign": (MinMax("sign"), 3.0127611610536147, "sign"),
    "min-max, std": (MinMax("std"), 1.1341503221544196, "std"),
    "min-max, std, ddof 0": (MinMax("std", 0), 1.22502235848, "std, ddof 0"),
    "min-sum, min": (MinSum(bound="min"), 2.317854391369708, "unit"),
    "min-sum, min, sign": (MinSum("sign", bound="min"), 1.6389705579405383, "sign"),
    "min-sum, min, std": (MinSum("std", bound="min"), 0.6202748778245442, "std"),
    "min-sum, max": (MinSum(), 4.61143211188, "unit"),
    "min-sum, max, sign": (MinSum("sign"), 3.26077491729, "sign"),
    "min-sum, max, std": (MinSum("std"), 1.23405314003, "std"),
}


@pytest.mark.parametrize("case", FACTORS)
def test_the_factor_of_a_direction_is_that_of_a_search(case):
    attack, factor, direction = FACTORS[case]
    mean = H.mean(axis=0)
    p = {
        "unit": mean / np.linalg.norm(mean),
        "sign": np.sign(mean),
        "std": H.std(axis=0, ddof=1),
        "std, ddof 0": H.std(axis=0),
    }[direction]
    found = (mean - attack(H, 1)[0]) / p
    np.testing.assert_allclose(found, [factor, factor], rtol=0, atol=2e-11)


Z = {
    (9, 2): 0.180012369793, (10, 4): 0.430727299295, (11, 2): 0.139710298882, (12, 2): 0.0,
    (20, 4): 0.157310684610, (20, 6): 0.366106356801, (25, 5): 0.253347103136,
    (50, 12): 0.336038140372, (50, 24): 1.42607687227, (51, 24): 1.44610359292,
}  # fmt: skip


@pytest.mark.parametrize(("n", "f"), Z)
def test_the_z_of_alie_is_the_tables(n, f):
    assert z_max(n, f) == pytest.approx(Z[n, f], abs=1e-11)


def test_the_mean_reversed_about_a_model_is_a_model_beyond_it():
    np.testing.assert_allclose(
        W + SignFlip(of="mean")(H - W, 2), [(0.528571428571, -2.51428571429)] * 2, atol=1e-11
    )


def test_the_main_direction_and_the_projections_are_those_of_a_covariance_matrix():
    z = top_direction(H - H.mean(axis=0))
    np.testing.assert_allclose(z, (0.601984920218, 0.798507455087), rtol=0, atol=1e-11)
    expected = [2.18762335982, 1.96151471897, 1.70976061833, -2.46461386474, -3.57528936398,
                3.28339808033, -3.10239354873]  # fmt: skip
    np.testing.assert_allclose((H - H.mean(axis=0)) @ z, expected, rtol=0, atol=1e-10)


def test_fangs_intervals_beyond_all_models_are_the_papers():
    models = W + FangTrimmedMean()(H - W, 4000, model=W)
    # The model goes down in the first coordinate and up in the second.
    for column, (low, high) in zip(models.T, ((2.8, 5.6), (-7.6, -3.8)), strict=True):
        assert low <= column.min() < low + 0.01
        assert high - 0.01 < column.max() <= high


def test_fangs_intervals_beyond_the_attackers_own_are_the_papers():
    models = W + FangTrimmedMean(known="partial")(H[:2] - W, 4000)
    intervals = ((-4.58969696197, -3.10477272148), (-1.22695526217, -0.307716446628))
    for column, (low, high) in zip(models.T, intervals, strict=True):
        assert low - 1e-11 <= column.min() < low + 0.01
        assert high - 0.01 < column.max() <= high + 1e-11


def test_a_single_attacker_owns_the_mean_as_far_as_honest_updates_cancel():
    X = np.array([[10.0, 10.0]])
    model = W + ModelReplacement()(H - W, 1, n=8, own=X - W)
    np.testing.assert_allclose(
        np.vstack([H, model]).mean(axis=0), (9.975, 11.325), rtol=0, atol=1e-12
    )


def test_a_takeover_makes_the_mean_its_target():
    rows = Takeover(10)(H, 2)
    np.testing.assert_allclose(np.vstack([H, rows]).mean(axis=0), (10, 10), atol=1e-12)
    rows = Takeover()(H, 3)
    np.testing.assert_allclose(np.vstack([H, rows]).mean(axis=0), -MU, atol=1e-11)
