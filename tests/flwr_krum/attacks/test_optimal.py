"""One factor searched against the rule in force: the searches of others, and a better one."""

import numpy as np
import pytest

from flwr_krum.attacks import OptimalALIE, OptimalIPM, Scene
from flwr_krum.attacks.factors import Noted, Trial, by_grid
from flwr_krum.attacks.search import Search
from flwr_krum.kernel.updates import BLOCK
from flwr_krum.rules import (
    RULES,
    Average,
    Clipping,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)

H = np.array([(2.4, 1.8), (0.3, 3.1), (2.8, 0.9), (2.1, -3.8), (-2, -2.1), (1.7, 3.7), (-4, 0)])
NNM = NearestNeighborMixing(2)
MIXED = NNM | TrimmedMean(2)
CLIPPED = Clipping(C=2.0) | NNM | TrimmedMean(2)


def scene(rule, honest=H, f=2):
    return Scene(honest, f, np.random.default_rng(0), rule=rule)


def distance(rule, honest, row, f=2):
    return np.linalg.norm(rule(np.vstack([honest, *[row] * f])).vector - honest.mean(axis=0))


@pytest.mark.parametrize(
    ("rule", "ipm", "alie"),
    [
        (Average(), (5242870, 812836), (5242870, 4.3537e6)),
        (TrimmedMean(2), (10, 1.43433125), (10, 1.96171728)),
        (MIXED, (10, 1.442593), (2.097152, 1.78221)),
        (CLIPPED, (10, 0.936958), (5242870, 0.546880)),
    ],
    ids=str,
)
def test_byzfls_search_finds_what_byzfl_0_0_11_finds(rule, ipm, alie):
    for attack, (factor, damage) in (
        (OptimalIPM("byzfl"), ipm),
        (OptimalALIE("byzfl", sign="plus"), alie),
    ):
        found = attack.found(scene(rule))
        assert found.factor == pytest.approx(factor, rel=1e-9)
        assert found.damage == pytest.approx(damage, rel=1e-5)


def test_a_model_of_several_blocks_of_columns_gets_its_whole_deviation():
    honest = np.random.default_rng(3).normal(size=(6, 2 * BLOCK + 5)) * np.arange(2 * BLOCK + 5)
    found = OptimalALIE("byzfl", sign="minus").found(scene(Average(), honest))
    expected = honest.mean(axis=0) - found.factor * honest.std(axis=0, ddof=1)
    np.testing.assert_allclose(found.rows[0], expected, rtol=1e-9)
    assert found.damage == pytest.approx(distance(Average(), honest, found.rows[0]), rel=1e-9)


def test_byzfls_krum_counts_one_neighbour_more_and_takes_another_vector():
    # ByzFL's: factor 10, damage 2.31785, which is its Krum's without any attack as well.
    found = OptimalIPM("byzfl").found(scene(Krum(2)))
    assert (found.factor, found.damage) == (10.0, pytest.approx(2.36030091))
    fewer = Krum(1, strict=False)  # of nine, n - f - 2 neighbours at f = 1 are n - f - 1 at f = 2
    theirs = OptimalIPM("byzfl").found(scene(fewer))
    assert (theirs.factor, theirs.damage) == (10.0, pytest.approx(2.31785, rel=1e-5))


@pytest.mark.parametrize(
    ("rule", "ipm", "alie"),
    [
        (Krum(2), (4.18, 3.61389817), (0.98, 3.59756153)),
        (MultiKrum(2, m=7), (7.2, 1.8377632), (1.52, 1.83149513)),
        (TrimmedMean(2), (8.5, 1.43433125), (1.76, 1.43433125)),
        (MIXED, (10.42, 1.4928247), (2.1, 1.47227537)),
        (Median(2), (None, 0.542104742), (None, 0.542104742)),
        (GeometricMedian(2, steps=20), (None, 1.39), (None, 1.39)),
    ],
    ids=str,
)
def test_the_better_search_finds_at_least_the_best_of_a_fine_grid(rule, ipm, alie):
    for attack, (factor, damage) in (
        (OptimalIPM(), ipm),
        (OptimalALIE(sign="minus"), alie),
    ):
        found = attack.found(scene(rule))
        assert damage * (1 - 1e-8) <= found.damage <= damage * 1.02
        if factor is not None and not rule.is_coordinate_wise:
            assert found.factor == pytest.approx(factor, abs=0.03)


@pytest.mark.parametrize("search", ["grid", "byzfl", "byzantine-momentum"])
@pytest.mark.parametrize("rule", [Krum(2), MIXED, MultiKrum(2)], ids=str)
def test_what_is_sent_does_what_is_said(rule, search):
    sigma = H.std(axis=0, ddof=1)
    ipm, alie = OptimalIPM(search), OptimalALIE(search, sign="minus")
    for attack, row in (
        (ipm, lambda g: -g * H.mean(axis=0)),
        (alie, lambda g: H.mean(axis=0) - g * sigma),
    ):
        found = attack.found(scene(rule))
        np.testing.assert_allclose(attack.on(scene(rule)), [row(found.factor)] * 2, atol=1e-9)
        assert distance(rule, H, found.rows[0]) == pytest.approx(found.damage, rel=1e-9)


def test_both_signs_are_searched_and_the_better_one_is_sent():
    for rule in (TrimmedMean(2), Krum(2), Median(2)):
        both, minus, plus = (
            OptimalALIE(sign=sign).found(scene(rule)) for sign in ("both", "minus", "plus")
        )
        assert both.damage == max(minus.damage, plus.damage)
        assert {minus.name, plus.name} == {"mu minus sigma", "mu plus sigma"}


def line_maximize(scape, evaluations=16, delta=1.0):
    """Another writing of ByzantineMomentum's search, as its loops go."""
    best = at = 0.0
    top = scape(0.0)
    expanding = True
    for _ in range(evaluations - 1):
        if expanding:
            at = best + delta
        elif at < best:
            at += delta
        else:
            back = at - delta
            while back < 0:
                back = (back + at) / 2
            at = back
        value = scape(at)
        better = value > top
        if better:
            best, top = at, value
        if expanding and better:
            delta *= 2
            continue
        expanding = False
        delta *= 0.8
    return best


@pytest.mark.parametrize("seed", range(10))
def test_byzantine_momentums_search_is_that_of_its_loops(seed):
    honest = np.random.default_rng(seed).normal(size=(9, 4)) + 0.5
    rule = (Krum(2), MultiKrum(2), Median(2), MIXED, NNM | Krum(2))[seed % 5]
    mean = honest.mean(axis=0)
    expected = line_maximize(lambda g: round(distance(rule, honest, -g * mean), 10))
    found = OptimalIPM("byzantine-momentum").found(scene(rule, honest))
    assert found.factor == pytest.approx(expected, rel=1e-9)


def test_a_peak_between_the_points_of_a_grid_is_found_where_the_choice_changes_beside_it():
    # Taken on [3.0, 3.1) only, where a half-octave grid has no point; dropped after.
    def attempt(g):
        return Trial(g if g < 3.1 else 0.5, g < 3.1)

    noted = Noted(attempt)
    by_grid(noted)
    assert noted.best(1)[0] == pytest.approx(3.1, rel=2e-6)
    assert noted.best(1)[0] < 3.1


def test_a_narrow_stretch_between_two_points_of_a_grid_is_found_by_a_change_beside_it():
    # Krum behind NNM takes the attackers on [1.544, 1.582] only, more damaging there than anywhere.
    rng = np.random.default_rng(5)
    d = int(rng.integers(2, 9))
    honest = rng.normal(size=(9, d)) + rng.normal(size=d) * rng.choice([0.2, 1, 3])
    found = OptimalALIE(sign="plus").found(scene(NNM | Krum(2), honest))
    assert 1.56 < found.factor < 1.582
    assert found.damage > 0.892


def test_a_search_ends_where_nothing_is_finite_and_where_nothing_changes():
    for value in (np.inf, -np.inf, 0.0, 1.0):
        noted = Noted(lambda g, value=value: Trial(value))
        by_grid(noted)
        assert noted.best(1) == [0.0]
        assert len(noted.trials) < 500


@pytest.mark.parametrize("rule", [Krum(2), Average(), MIXED, GeometricMedian(2, steps=3)], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-200, 1e307, np.inf, np.nan])
def test_rows_of_any_size_are_answered(rule, size, recwarn):
    honest = np.where(H == 0.0, 1.0, H) * size
    for attack in (OptimalIPM(), OptimalALIE()):
        assert attack.on(scene(rule, honest)).shape == (2, 2)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"search": "random"}, "search is 'random', expected 'grid' or 'byzfl'"),
        ({"sign": "up"}, "sign is 'up', expected 'both' or 'minus' or 'plus'"),
        ({"ddof": -1}, "ddof is -1, expected an integer >= 0"),
    ],
)
def test_arguments_that_are_not_legal_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        OptimalALIE(**arguments)


def fine_grid_misses(names, step, inputs):
    """Return (share of the best of a fine grid, what) where the search misses it."""
    for name in names:
        f = None if name in ("average", "norm-bounding") else 2
        for rule in (RULES[name](f), NNM | RULES[name](f)):
            for seed in range(inputs):
                rng = np.random.default_rng(seed)
                d = int(rng.integers(2, 9))
                honest = rng.normal(size=(9, d)) + rng.normal(size=d) * rng.choice([0.2, 1, 3])
                search = Search(scene(rule, honest), honest.std(axis=0, ddof=1)[None])
                mean, sigma = search.mean_coefficients, np.eye(search.p)[-1]
                lines = [(0 * mean, -mean), (mean, -sigma), (mean, sigma)]
                start, direction = lines[seed % 3]
                noted = Noted(lambda g, s=start, d=direction, at=search: at.attempt(s + g * d))
                by_grid(noted)
                found = noted(noted.best(1)[0])
                factors = np.arange(0.0, 40.0 + step / 2, step)
                fine = max(search.damage(start + g * direction) for g in factors)
                if found < 0.99 * fine:
                    yield found / fine, (str(rule), seed)


def test_no_factor_of_a_grid_does_one_percent_more():
    assert list(fine_grid_misses(["krum", "multi-krum"], 0.25, 3)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_no_factor_of_a_fine_grid_does_one_percent_more(name):
    slow = name in ("geometric-median", "smea")
    assert list(fine_grid_misses([name], 0.1 if slow else 0.01, 20)) == []
