"""The rules on inputs whose results were worked out by independent loops, to 1e-12.

A and B have n = 9 and f = 2, beside a global model; E is one-dimensional; L is Bulyan's.
"""

import math
import re

import numpy as np
import pytest

from flwr_krum.rules import (
    CAF,
    CGE,
    SMEA,
    AdaptiveClipping,
    Bucketing,
    Bulyan,
    CenteredClipping,
    ClientUpdates,
    Clipping,
    DnC,
    FLTrust,
    GeometricMedian,
    MeaMed,
    Median,
    MinimumDiameter,
    MoNNA,
    MultiKrum,
    NearestNeighborMixing,
    NormBounding,
    Phocas,
    TrimmedMean,
)
from flwr_krum.rules.dnc import outlier_scores

NNM = NearestNeighborMixing
A = [
    (1, 2), (1.5, 1.8), (0.8, 2.4), (1.2, 1.5), (0.6, 1.9),
    (1.1, 2.6), (1.4, 2.2), (5, -3), (4, -2),
]  # fmt: skip
B = [
    (2.4, 1.8), (0.3, 3.1), (2.8, 0.9), (2.1, -3.8), (-2, -2.1),
    (1.7, 3.7), (-4, 0), (-0.4, 0.5), (-1.2, -0.1),
]  # fmt: skip
E = [(x,) for x in (0, 1, 2, 4, 7, 11, 16, 22)]
L = [
    (-1, 2), (7, -9), (5, -2), (-8, -4), (-6, 2), (6, -2),
    (3, 8), (-6, 9), (-2, -9), (-3, 4), (-1, -4),
]  # fmt: skip
L1 = [(x,) for x in (-2, 2, 3, -5, -3, -8, -7)]
W_A, W_B = (0.5, 1.0), (0.5, -1.0)

CASES = {
    "median, A": (Median(2), A, W_A, (1.2, 1.9)),
    "median, B": (Median(2), B, W_B, (0.3, 0.5)),
    "median of eight": (Median(2), B[:8], W_B, (1.0, 0.7)),
    "median, E": (Median(2), E, None, (5.5,)),
    "trimmed mean, A": (TrimmedMean(2), A, W_A, (1.24, 1.88)),
    "trimmed mean, B": (TrimmedMean(2), B, W_B, (0.5, 0.62)),
    "trimmed mean of eight": (TrimmedMean(2), B[:8], W_B, (0.925, 0.8)),
    "trimmed mean, E": (TrimmedMean(2), E, None, (6.0,)),
    "meamed, A": (MeaMed(2), A, W_A, (1.0857142857142856, 2.057142857142857)),
    "meamed, B": (MeaMed(2), B, W_B, (0.4142857142857143, 0.5857142857142857)),
    "meamed of eight": (MeaMed(2), B[:8], W_B, (1.4833333333333334, 0.7)),
    "meamed, E": (MeaMed(2), E, None, (4.166666666666667,)),
    "phocas, A": (Phocas(2), A, W_A, (1.0857142857142856, 2.057142857142857)),
    "phocas, B": (Phocas(2), B, W_B, (1.1, 0.5857142857142857)),
    "phocas of eight": (Phocas(2), B[:8], W_B, (1.4833333333333334, 0.7)),
    "phocas, E": (Phocas(2), E, None, (4.166666666666667,)),
    "multi-krum of 1": (MultiKrum(2, m=1), B, W_B, (2.4, 1.8)),
    "multi-krum of 3": (MultiKrum(2, m=3), B, W_B, (0.7666666666666667, 1.8)),
    "multi-krum of 5": (MultiKrum(2, m=5), B, W_B, (0.78, 1.24)),
    "multi-krum of 7": (MultiKrum(2), B, W_B, (0.5142857142857142, 1.1142857142857143)),
    "geometric median, A": (GeometricMedian(2), A, W_A, (1.2006671213059767, 1.913160417127559)),
    "geometric median that is a vector": (GeometricMedian(2), B, W_B, (-0.4, 0.5)),
    "smoothed geometric median": (
        GeometricMedian(2, nu=0.1), B, W_B, (-0.32107154862918497, 0.4971352995321513),
    ),
    "three steps from the origin": (
        GeometricMedian(2, nu=0.1, steps=3, start="model"), B, None,
        (-0.2444087809568976, 0.5102504205011391),
    ),
    "three steps from the model": (
        GeometricMedian(2, nu=0.1, steps=3, start="model"), B, W_B,
        (-0.16376129690287106, 0.5270591027650859),
    ),
    "minimum diameter, A": (MinimumDiameter(2), A, W_A, (1.0857142857142856, 2.057142857142857)),
    "minimum diameter, B": (MinimumDiameter(2), B, W_B, (-0.3, 0.5857142857142857)),
    "caf, A": (CAF(2), A, W_A, (1.094193572009791, 2.043086006693637)),
    "caf, B": (CAF(2), B, W_B, (0.18888888888888888, 0.44444444444444464)),
    "smea, A": (SMEA(2), A, W_A, (1.0857142857142856, 2.057142857142857)),
    "smea, B": (SMEA(2), B, W_B, (-0.4, -0.08571428571428565)),
    "cge": (CGE(2), B, W_B, (0.5714285714285715, 0.042857142857142705)),
    "cge about the origin": (CGE(2), B, None, (-0.3, 0.5857142857142857)),
    "centred clipping": (
        CenteredClipping(2, tau=1.0), B, W_B, (0.35971967061025467, -0.5885092632558704),
    ),
    "centred clipping, three steps": (
        CenteredClipping(2, tau=1.0, steps=3), B, W_B, (0.13416513902567712, 0.021241223698707845),
    ),
    "centred clipping, tau 3": (
        CenteredClipping(2, tau=3.0, steps=3), B, W_B, (0.2631661201507098, 0.6144494314610385),
    ),
    "centred clipping, tau 3, one step": (
        CenteredClipping(2, tau=3.0), B, W_B, (0.28226021824307435, 0.07018660616732708),
    ),
    "centred clipping with memory": (
        CenteredClipping(2, tau=1.0, start="step"), B, W_B,
        (0.5200125311061075, -0.3426092140935339),
    ),
    "norm bounding": (NormBounding(C=1.0), B, W_B, (0.35971967061025467, -0.5885092632558704)),
    "dnc": (DnC(2), B, W_B, (0.2857142857142857, 0.34285714285714297)),
    "dnc, c = 1.5": (DnC(2, c=1.5), B, W_B, (1.0, 0.4)),
    "fltrust": (FLTrust(2), B, W_B, (0.8744270494478712, -0.032528447356264145)),
    "monna around the first": (MoNNA(2), B, W_B, (1.1, 0.8714285714285717)),
    "monna around the eighth": (MoNNA(2), B, W_B, (-0.3, 0.585714285714286)),
    "monna around a liar": (MoNNA(2, pivot="step"), A, W_A, (2.1, 0.6285714285714286)),
    "bulyan": (Bulyan(2), L, None, (-1.6666666666666667, -3.3333333333333335)),
    "bulyan with f = 1": (Bulyan(1), L1, None, (-3.3333333333333335,)),
    "nnm, trimmed mean": (NNM(2) | TrimmedMean(2), B, W_B, (0.08571428571428572, 0.78)),
    "nnm, median": (NNM(2) | Median(2), B, W_B, (0.22857142857142856, 0.8714285714285714)),
    "nnm, meamed": (NNM(2) | MeaMed(2), B, W_B, (-0.053061224489795916, 0.9612244897959183)),
    "nnm, geometric median": (
        NNM(2) | GeometricMedian(2), B, W_B, (0.05105072662896675, 0.7504895750626741),
    ),
    "nnm, minimum diameter": (
        NNM(2) | MinimumDiameter(2), B, W_B, (0.37551020408163266, 0.826530612244898),
    ),
    "arc, nnm, trimmed mean": (
        AdaptiveClipping(2) | NNM(2) | TrimmedMean(2), B, W_B,
        (0.0335104335627201, 0.7122302853292559),
    ),
    "clipping, nnm, trimmed mean": (
        Clipping(2, C=2.0) | NNM(2) | TrimmedMean(2), B, W_B,
        (0.19076612700652607, 0.20460999898929133),
    ),
    "clipping about the origin, nnm, trimmed mean": (
        Clipping(2, C=2.0) | NNM(2) | TrimmedMean(2), B, None,
        (-0.08318181455012476, 0.4147870122033588),
    ),
}  # fmt: skip


ROOT = (W_B[0] + 0.7, W_B[1] + 0.9)
"""The server's own model beside B, for FLTrust."""

SERVER_ROWS = {
    "fltrust": {"root": ROOT},
    "centred clipping with memory": {"step": (W_B[0] + 0.2, W_B[1] + 0.3)},
    "monna around the first": {"root": B[0]},
    "monna around the eighth": {"root": B[7]},
    "monna around a liar": {"step": A[7]},
}
"""What the server adds, by case."""


def updates(V, w, device="cpu:numpy", case=""):
    models = [[np.array(row, float)] for row in V]
    rows = {name: [np.array(row, float)] for name, row in SERVER_ROWS.get(case, {}).items()}
    base = None if w is None else [np.array(w)]
    return ClientUpdates.from_layers(models, base, device=device, server_rows=rows)


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_that_of_an_independent_loop(case, device):
    rule, V, w, expected = CASES[case]
    found = rule(updates(V, w, device, case)).vector
    tolerance = 2e-8 if "geometric" in case else 1e-12  # that rule promises 1e-9 of its objective
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


SELECTED = {
    "multi-krum": (MultiKrum(2), B, W_B, (0, 7, 1, 8, 2, 5, 4)),
    "minimum diameter": (MinimumDiameter(2), B, W_B, (0, 1, 2, 4, 6, 7, 8)),
    "smea": (SMEA(2), B, W_B, (0, 1, 3, 4, 6, 7, 8)),
    "cge": (CGE(2), B, W_B, (7, 8, 4, 2, 3, 0, 1)),
    "dnc": (DnC(2), B, W_B, (0, 1, 2, 3, 6, 7, 8)),
    "dnc, c = 1.5": (DnC(2, c=1.5), B, W_B, (0, 1, 2, 3, 7, 8)),
    "monna around the first": (MoNNA(2), B, W_B, (0, 1, 2, 3, 5, 7, 8)),
    "monna around the eighth": (MoNNA(2), B, W_B, (0, 1, 2, 4, 6, 7, 8)),
    "bulyan": (Bulyan(2), L, None, (0, 10, 9, 2, 4, 1, 3)),
    "bulyan with f = 1": (Bulyan(1), L1, None, (3, 0, 6, 1, 4)),
}


@pytest.mark.parametrize("case", SELECTED)
def test_the_selected_are_those_of_an_independent_loop(case):
    rule, V, w, expected = SELECTED[case]
    selected = rule(updates(V, w, case=case)).selected
    # Around a pivot of the server's the nearest come first; there the vectors name a set.
    assert (tuple(sorted(selected)) if "monna" in case else selected) == expected


def test_the_weights_of_centred_clipping_leave_the_rest_on_the_global_model():
    weights = CenteredClipping(2, tau=1.0, steps=3)(updates(B, W_B)).weights
    assert weights[[0, 8]] == pytest.approx([0.0699009254723954, 0.137566127871], abs=1e-12)
    assert weights.sum() == pytest.approx(0.759975701669, abs=1e-12)


def test_the_scores_of_dnc_are_squared_offsets_in_the_main_direction():
    expected = np.array([6.14302349469, 4.27092500556, 4.27374986363, 3.6977701765, 11.2639582164,
                         11.8477983864, 9.61950234033, 0.120706464268, 1.75933872055])  # fmt: skip
    found = outlier_scores(np.array(B))
    np.testing.assert_allclose(found, expected / expected.max(), rtol=0, atol=1e-11)


def test_the_weights_of_fltrust_are_trust_over_length_and_leave_the_rest_on_the_global_model():
    result = FLTrust()(updates(B, W_B, case="fltrust"))
    trust = [0.9978983626048052, 0.7585019895844747, 0.9760485131828389, 0, 0,
             0.9166959647084233, 0, 0.3609941025577121, 0]  # fmt: skip
    weights = [0.08384860154047137, 0.05253745471681084, 0.09302263939762087, 0, 0,
               0.0537312090376659, 0, 0.05867480443932145, 0]  # fmt: skip
    np.testing.assert_allclose(result.scores, trust, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.weights, weights, rtol=0, atol=1e-12)


def test_buckets_in_the_order_of_the_permutation_are_averaged():
    rule = Bucketing(s=2, seed=7) | Median()
    order = np.random.default_rng([7, 1]).permutation(len(B))
    rows = np.array(B)[order]
    means = [rows[i : i + 2].mean(axis=0) for i in range(0, len(B), 2)]
    found = rule(updates(B, W_B), server_round=1).vector
    np.testing.assert_allclose(found, np.median(means, axis=0), atol=1e-14)


def test_a_chain_asks_for_what_its_rule_needs_behind_the_buckets():
    rule = Bucketing(2, s=2, seed=0) | MultiKrum(2)
    with pytest.raises(ValueError, match=r"needs n >= 13, got n=12, f=2; legal: f <= 1 at n=12"):
        rule(np.zeros((12, 3)))
    assert rule(np.zeros((13, 3))).vector.tolist() == [0, 0, 0]


@pytest.mark.parametrize("C", [0.0, -1.0, math.nan, True, "1"])
def test_a_clipping_length_that_is_no_number_above_0_is_refused_by_name(C):
    with pytest.raises(ValueError, match=f"C must be a number > 0, got {re.escape(repr(C))}"):
        Clipping(C=C)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"eps": 0.0}, "eps must be a number > 0, got 0.0"),
        ({"eps": math.nan}, "eps must be a number > 0, got nan"),
        ({"nu": -0.1}, "nu must be a number >= 0, got -0.1"),
        ({"nu": math.nan}, "nu must be a number >= 0, got nan"),
        ({"start": "client"}, "start must be one of .*'model'.*, got 'client'"),
    ],
)
def test_an_option_of_the_geometric_median_that_is_out_of_range_is_named(option, text):
    with pytest.raises(ValueError, match=text):
        GeometricMedian(2, **option)


def test_a_search_for_the_smallest_diameter_that_is_cut_short_keeps_a_closest_group_and_says_so():
    V = np.array([[0.0], [1.0], [1.5], [3.0], [50.0], [90.0]])
    rule = MinimumDiameter(f=2, most_nodes=1)
    result = rule(V)
    assert sorted(result.selected) == [0, 1, 2, 3]
    assert result.choice.note == "the search for the smallest diameter ended after 1 nodes"
