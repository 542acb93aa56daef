"""Attacks that are functions of the honest updates, against plain loops and at the extremes."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flwr_krum.attacks import (
    ALIE,
    ATTACKS,
    IPM,
    Constant,
    FangTrimmedMean,
    Mimic,
    MinMax,
    MinSum,
    ModelReplacement,
    NonFinite,
    Random,
    Takeover,
    Zero,
)
from flwr_krum.attacks.little_is_enough import z_max
from flwr_krum.attacks.scaling import length
from flwr_krum.attacks.written import parse_attack
from flwr_krum.rules import TrimmedMean
from tests.flwr_krum.attacks.test_attack import scene


def mean(H):
    return [math.fsum(column) / len(H) for column in zip(*H, strict=True)]


def deviation(H, ddof):
    if len(H) <= ddof:
        return [0.0] * len(H[0])
    columns = list(zip(*H, strict=True))
    return [
        math.sqrt(math.fsum((x - m) ** 2 for x in column) / (len(H) - ddof))
        for column, m in zip(columns, mean(H), strict=True)
    ]


def squared(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def largest(holds):
    """Return the largest g with a property that holds from 0 up to it: doubling, bisection."""
    high = 1.0
    while holds(high):
        high *= 2
    low = 0.0 if high == 1.0 else high / 2
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def pushed(H, direction, ddof, fits):
    mu, sigma = mean(H), deviation(H, ddof)
    norm = math.sqrt(math.fsum(m * m for m in mu))
    p = {
        "unit": [-m / norm for m in mu],
        "sign": [-math.copysign(1, m) for m in mu],
        "std": [-s for s in sigma],
    }[direction]
    if not any(p):
        return mu

    def at(g):
        return [m + g * q for m, q in zip(mu, p, strict=True)]

    return at(largest(lambda g: fits(at(g))))


def min_max(H, direction, ddof):
    bound = max(squared(x, y) for x in H for y in H)
    return pushed(H, direction, ddof, lambda v: max(squared(v, x) for x in H) <= bound)


def min_sum(H, direction, ddof, bound):
    sums = [math.fsum(squared(x, y) for y in H) for x in H]
    limit = max(sums) if bound == "max" else min(sums)
    return pushed(H, direction, ddof, lambda v: math.fsum(squared(v, x) for x in H) <= limit)


def some(seed):
    """Return honest updates (h, d), of a size, length and offset of their own."""
    rng = np.random.default_rng(seed)
    h, d = int(rng.integers(2, 12)), int(rng.integers(1, 9))
    return (rng.normal(size=(h, d)) + 3 * rng.normal(size=d)) * 10.0 ** rng.integers(-3, 4)


def test_the_rows_are_those_of_plain_loops():
    for seed in range(100):
        H = some(seed)
        h, d = H.shape
        listed = H.tolist()
        rng = np.random.default_rng(seed)
        f, z, factor = int(rng.integers(1, 5)), rng.normal(), rng.uniform(0, 4)
        direction = ("unit", "sign", "std")[seed % 3]
        ddof = seed % 2
        mu, sigma = mean(listed), deviation(listed, ddof)
        expected = {
            IPM(factor): [-factor * m for m in mu],
            ALIE(z, ddof=ddof): [m - z * s for m, s in zip(mu, sigma, strict=True)],
            ALIE(z, "plus", ddof): [m + z * s for m, s in zip(mu, sigma, strict=True)],
            MinMax(direction, ddof): min_max(listed, direction, ddof),
            MinSum(direction, ddof): min_sum(listed, direction, ddof, "max"),
            MinSum(direction, ddof, "min"): min_sum(listed, direction, ddof, "min"),
            Takeover(factor): [
                ((h + f) * factor - math.fsum(c)) / f for c in zip(*listed, strict=True)
            ],
            Takeover(): [
                (-(h + f) * m - math.fsum(c)) / f
                for m, c in zip(mu, zip(*listed, strict=True), strict=True)
            ],
        }
        for attack, row in expected.items():
            found = attack(H, f)
            assert found.shape == (f, d)
            np.testing.assert_allclose(found, [row] * f, rtol=1e-9, atol=1e-9 * np.abs(H).max())


def test_mimic_sends_the_client_that_a_covariance_matrix_points_to():
    for seed in range(100):
        H = some(seed)
        _, vectors = np.linalg.eigh(np.cov(H.T, bias=True).reshape(H.shape[1], -1))
        z = vectors[:, -1]
        z = z * np.sign(z[np.argmax(np.abs(z))])
        along = (H - H.mean(axis=0)) @ z
        for of, size in (("largest", along), ("magnitude", np.abs(along))):
            sent = Mimic(of=of)(H, 2)
            (found,) = np.flatnonzero((sent[0] == H).all(axis=1))
            np.testing.assert_array_equal(sent[1], sent[0])
            # Of two honest clients both are as far: rounding decides, and BLAS how it rounds.
            assert size[found] >= size.max() - 1e-9 * np.abs(along).max()


@pytest.mark.parametrize("space", ["model", "update"])
def test_fangs_draws_are_beyond_the_honest_values_against_the_way_they_go(space):
    for seed in range(100):
        H, f, b = some(seed), 3, 2.0 + seed % 3
        w = np.random.default_rng([seed, 1]).normal(size=H.shape[1]) * np.abs(H).max()
        offset = w if space == "model" else np.zeros(len(w))
        sent = (
            FangTrimmedMean(space=space, b=b)(H, f, np.random.default_rng(seed), model=w) + offset
        )
        draws = np.random.default_rng(seed).random(sent.shape)
        for j, m in enumerate(mean(H.tolist())):
            models = [x + offset[j] for x in H[:, j]]
            top, bottom = max(models), min(models)
            if m < 0:
                low, high = (top, b * top) if top > 0 else (top, top / b)
            else:
                low, high = (bottom / b, bottom) if bottom > 0 else (b * bottom, bottom)
            expected = [low + (high - low) * u for u in draws[:, j]]
            np.testing.assert_allclose(sent[:, j], expected, rtol=0, atol=1e-12 * np.abs(w).max())


def test_fangs_partial_draws_are_three_to_four_deviations_from_the_attackers_mean():
    for seed in range(100):
        H = some(seed)
        rows = FangTrimmedMean("partial")(H, 5, np.random.default_rng(seed))
        draws = np.random.default_rng(seed).random(rows.shape)
        mu, t = mean(H.tolist()), deviation(H.tolist(), 1)
        for j, m in enumerate(mu):
            near = 3 if m < 0 else -4
            expected = [m + (near + u) * t[j] for u in draws[:, j]]
            np.testing.assert_allclose(rows[:, j], expected, rtol=1e-9, atol=1e-9 * np.abs(H).max())


HONEST = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6),
)


@settings(max_examples=60, deadline=None)
@given(HONEST, st.sampled_from(["unit", "sign", "std"]))
def test_min_max_stays_within_its_bound_and_a_little_more_would_not(H, direction):
    (row,) = MinMax(direction)(H, 1)
    assert np.isfinite(row).all()
    diameter = max(np.linalg.norm(x - y) for x in H for y in H)
    reach = max(np.linalg.norm(row - x) for x in H)
    size = np.abs(H).max()
    assert reach <= diameter * (1 + 1e-9) + 1e-9 * size
    further = row + 1e-3 * (row - H.mean(axis=0))
    if np.linalg.norm(row - H.mean(axis=0)) > 1e-3 * size:
        assert max(np.linalg.norm(further - x) for x in H) > diameter


@settings(max_examples=60, deadline=None)
@given(HONEST, st.sampled_from(["unit", "sign", "std"]), st.sampled_from(["max", "min"]))
def test_min_sum_is_as_far_from_the_mean_as_an_honest_client(H, direction, bound):
    (row,) = MinSum(direction, bound=bound)(H, 1)
    distances = [np.linalg.norm(x - H.mean(axis=0)) for x in H]
    wanted = max(distances) if bound == "max" else min(distances)
    found = np.linalg.norm(row - H.mean(axis=0))
    assert math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9 * np.abs(H).max()) or found == 0


@settings(max_examples=60, deadline=None)
@given(HONEST, st.integers(-900, 900), st.sampled_from([MinMax(), MinSum("std"), Mimic()]))
def test_powers_of_two_change_nothing_but_the_scale(H, exponent, attack):
    np.testing.assert_array_equal(
        attack(np.ldexp(H, exponent), 1), np.ldexp(attack(H, 1), exponent)
    )


@settings(max_examples=60, deadline=None)
@given(HONEST, st.randoms())
def test_the_order_of_the_honest_decides_nothing(H, random):
    order = list(range(len(H)))
    random.shuffle(order)
    for attack in (IPM(), ALIE(1.0), MinSum(), MinMax("std"), Takeover()):
        found, before = attack(H[order], 1), attack(H, 1)
        # A mean that cancels to rounding has no direction.
        if np.abs(H.mean(axis=0)).min() > 1e-6 * np.abs(H).max():
            np.testing.assert_allclose(found, before, rtol=1e-6, atol=1e-6 * np.abs(H).max())


# --- z of ALIE ---


def test_alie_needs_a_majority_that_is_short_of_supporters():
    for n, f in ((2, 1), (15, 8), (3, 2), (1, 1), (4, 4), (5, 7)):
        with pytest.raises(ValueError, match=rf"z is not defined for n={n}, f={f}: .*; give z"):
            z_max(n, f)


@pytest.mark.parametrize("n", range(3, 40))
def test_alie_has_a_z_for_every_minority_of_attackers_that_grows_with_it(n):
    found = [z_max(n, f) for f in range(1, (n + 1) // 2)]
    assert found == sorted(found)
    for f, z in enumerate(found, 1):
        s = math.floor(n / 2 + 1) - f
        assert NormalDist().cdf(z) == pytest.approx((n - f - s) / (n - f), abs=1e-12)


def test_alie_of_one_attacker_in_twelve_has_a_negative_z():
    assert z_max(12, 1) < 0 == z_max(12, 2) < z_max(12, 3)


def test_alie_that_cannot_know_its_z_says_so_in_the_round():
    with pytest.raises(ValueError, match="z is not defined for n=7, f=6"):
        ALIE()(np.ones((1, 2)), 6, n=7)
    assert ALIE(z=1)(np.ones((1, 2)), 6).tolist() == [[1, 1]] * 6


# --- the extremes ---

INPUTS = {
    "one client": np.array([[1.0, -2.0, 0.5, 3.0, 0.0]]),
    "zeros": np.zeros((4, 5)),
    "equal": np.full((7, 5), 0.1),
    "a mean of zero": np.array([[1.0, -2.0, 3.0, 1.0, 1.0], [-1.0, 2.0, -3.0, -1.0, -1.0]]),
    "one coordinate": np.array([[1.0], [2.0], [-4.0]]),
    "huge": np.array([[1e300, -1e300], [-1e300, 5e299], [1e300, 1.0]]),
    "tiny": np.array([[1e-300, 3e-308], [-2e-300, 1e-300], [0.0, 1e-320]]),
}
HIDING = [
    *("min-max", "min-sum", "min-sum(bound=min)", "mimic", "mimic(of=magnitude)", "ipm"),
    *(f"{name}(direction={p})" for name in ("min-max", "min-sum") for p in ("sign", "std")),
]


@pytest.mark.parametrize("text", HIDING)
def test_rows_are_finite_whatever_the_honest_send(text):
    for case, H in INPUTS.items():
        for f in (1, 9):
            rows = parse_attack(text)(H, f)
            assert rows.shape == (f, H.shape[1])
            assert np.isfinite(rows).all(), case
            if case in ("one client", "equal", "zeros") and text != "ipm":
                np.testing.assert_allclose(rows, np.tile(H.mean(axis=0), (f, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_fails_at_the_extremes_and_none_warns(name, recwarn):
    for case, H in INPUTS.items():
        for f in (1, 9):
            own = np.resize(H, (f, H.shape[1]))
            n = 2 * f + 1 + len(H)
            seen = scene(honest=H, f=f, n=n, own=own, model=own[0], gradient=own[0])
            seen = replace(seen, rule=TrimmedMean())  # one that runs on any number of clients
            rows = parse_attack(name).on(seen)
            assert rows.shape == own.shape
            if name != "non-finite" and case != "huge":
                assert np.isfinite(rows).all(), case
    assert not recwarn.list


def test_nothing_hides_behind_a_mean_or_a_deviation_of_zero():
    H = INPUTS["a mean of zero"]
    for text in ("min-max", "min-sum", "min-max(direction=sign)", "min-sum(direction=sign)"):
        assert not parse_attack(text)(H, 2).any()
    for text in ("min-max(direction=std)", "min-sum(direction=std)", "alie(z=3)"):
        assert parse_attack(text)(np.full((3, 2), 0.5), 1).tolist() == [[0.5, 0.5]]


def test_fang_sends_the_mean_where_it_does_not_move():
    H = np.array([[1.0, 2.0], [-1.0, 4.0]])
    for known in ("full", "partial"):
        rows = FangTrimmedMean(known, "update")(H, 3)
        assert rows[:, 0].tolist() == [0, 0, 0]
        assert (rows[:, 1] < 2).all()
    assert FangTrimmedMean("partial")(H[:1], 1).tolist() == [[1, 2]]


def test_fangs_attackers_draw_each_for_itself():
    rows = FangTrimmedMean(space="update")(some(3), 4)
    assert len(np.unique(rows, axis=0)) == 4


def test_fang_sees_all_updates_or_those_of_the_attackers():
    assert FangTrimmedMean().knowledge == "all"
    assert FangTrimmedMean("partial").knowledge == "colluding"


def test_mimicry_of_a_client_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="index is 3, expected < 3, the honest updates seen"):
        Mimic(index=3)(np.ones((3, 2)), 1)


# --- plain ones ---


def test_plain_updates_are_what_they_say():
    seen = scene()
    assert (Constant(-2.5).on(seen) == -2.5).all()
    assert not Zero().on(seen).any()
    np.testing.assert_array_equal(seen.model + Zero("model").on(seen), np.zeros((2, 5)))
    for value, test in (("nan", np.isnan), ("inf", np.isposinf), ("minus-inf", np.isneginf)):
        assert test(NonFinite(value).on(seen)).all()


def test_random_updates_are_independent_and_within_their_range():
    rows = Random(2, 5)(np.zeros((1, 1000)), 4)
    assert rows.min() >= 2
    assert rows.max() < 5
    assert len(np.unique(rows)) == rows.size
    assert rows.mean() == pytest.approx(3.5, abs=0.1)
    assert (Random(2, 2)(np.zeros((1, 3)), 2) == 2).all()
    assert np.isfinite(Random(-1.7e308, 1.7e308)(np.zeros((1, 99)), 2)).all()


# --- model replacement ---


def test_a_replacement_is_own_work_at_a_scale_and_no_longer_than_its_bound():
    own = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [1e300, 0.0]])
    H = np.ones((1, 2))
    for scale in (None, 10.0):
        rows = ModelReplacement(scale)(H, 4, n=10, own=own)
        np.testing.assert_array_equal(rows, 10 * own)
    rows = ModelReplacement(10, clip=5)(H, 4, own=own)
    np.testing.assert_allclose(rows, [[3, 4], [3, 4], [0, 0], [5, 0]], rtol=1e-15)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, st.integers(0, 9), elements=st.floats(-1e308, 1e308)))
def test_a_length_is_that_of_exact_squares(vector):
    assert length(vector) == pytest.approx(math.hypot(*vector), rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ipm(factor=-1)", "factor is -1, expected a finite number >= 0"),
        ("alie(z=1e999)", "z is inf, expected a finite number"),
        ("alie(sign=both)", "sign is 'both', expected 'minus' or 'plus'"),
        ("alie(ddof=-1)", "ddof is -1, expected an integer >= 0"),
        ("min-max(direction=up)", "direction is 'up', expected 'unit' or 'sign' or 'std'"),
        ("min-max(ddof=1.5)", "ddof is 1.5, expected an integer >= 0"),
        ("min-sum(bound=all)", "bound is 'all', expected 'max' or 'min'"),
        ("fang-trimmed-mean(known=all)", "known is 'all', expected 'full' or 'partial'"),
        ("fang-trimmed-mean(space=w)", "space is 'w', expected 'model' or 'update'"),
        ("fang-trimmed-mean(b=0.5)", "b is 0.5, expected a finite number >= 1"),
        ("mimic(of=all)", "of is 'all', expected 'largest' or 'magnitude'"),
        ("mimic(warm_up=-1)", "warm_up is -1, expected an integer >= 0"),
        ("mimic(index=-1)", "index is -1, expected an integer >= 0"),
        ("mimic(index=1, warm_up=2)", "warm_up is 2, expected 0 with an index"),
        ("takeover(target=mean)", "target is 'mean', expected a finite number or 'reversed'"),
        ("takeover(target=1e999)", "target is inf, expected a finite number"),
        ("model-replacement(scale=0)", "scale is 0, expected a finite number > 0"),
        ("model-replacement(clip=0)", "clip is 0, expected a finite number > 0"),
        ("constant(value=x)", "value is 'x', expected a finite number"),
        ("random(low=1, high=0)", "high is 0, expected a finite number >= 1"),
        ("zero(of=all)", "of is 'all', expected 'update' or 'model'"),
        ("non-finite(value=zero)", "value is 'zero', expected 'nan' or 'inf' or 'minus-inf'"),
    ],
)
def test_an_illegal_parameter_is_named_with_the_legal_ones(text, message):
    with pytest.raises(ValueError, match=message):
        parse_attack(text)
