"""Fang's attack on Krum: the paper's numbers, and the largest lambda that Krum really takes."""

import numpy as np
import pytest

from flwr_krum.attacks import FangKrum, Scene
from flwr_krum.attacks.fang_krum import bound_on_factor
from flwr_krum.rules import Krum, Medoid, MultiKrum, NearestNeighborMixing, TrimmedMean

H = np.array([(2.4, 1.8), (0.3, 3.1), (2.8, 0.9), (2.1, -3.8), (-2, -2.1), (1.7, 3.7), (-4, 0)])
W = np.array([0.5, -1.0])
U = H - W


def scene(honest=U, f=2, **beyond):
    return Scene(honest, f, np.random.default_rng(0), **beyond)


def is_taken(honest, row, f=2, medoid=False):
    """Say whether Krum, or the medoid, takes f copies that come after the honest updates."""
    rows = np.vstack([honest, *[row] * f])
    apart = ((rows[:, None] - rows) ** 2).sum(axis=2)
    if medoid:
        return np.argmin(np.sqrt(apart).sum(axis=1)) >= len(honest)
    nearest = np.sort(apart, axis=1)[:, 1 : max(1, len(honest) - 2) + 1]
    return np.argmin(nearest.sum(axis=1)) >= len(honest)


def test_halving_sends_the_papers_vector():
    assert bound_on_factor(U, 2) == pytest.approx(2.99940643821 + 3.43001457723, rel=1e-11)
    attack = FangKrum(search="halving")
    assert attack.factor(scene()) == pytest.approx(0.803677626929, rel=1e-11)
    np.testing.assert_allclose(W + attack.on(scene()), [(1.30367762693, -1.80367762693)] * 2)


@pytest.mark.parametrize("rule", [None, Krum(2), TrimmedMean(2), Krum(4), MultiKrum(2)], ids=str)
def test_the_grid_finds_the_end_of_the_stretch_that_krum_takes(rule):
    factor = FangKrum().factor(scene(rule=rule))
    away = np.array([1.0, -1.0])
    taken = [g for g in np.arange(0.0, 6.43, 0.001) if is_taken(U, g * away)]
    assert max(taken) <= factor <= max(taken) + 0.001
    assert factor == pytest.approx(1.0213, abs=1e-3)
    assert is_taken(U, factor * (1 - 1e-6) * away)
    assert not is_taken(U, factor * (1 + 1e-6) * away)


@pytest.mark.parametrize("rule", [Krum(2), Medoid(2), NearestNeighborMixing(2) | Krum(2)], ids=str)
def test_the_largest_factor_of_a_grid_is_not_larger(rule):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        honest = rng.normal(size=(7, 3)) + rng.normal(size=3)
        factor = FangKrum().factor(scene(honest, rule=rule))
        medoid = rule == Medoid(2)  # the results of the chain are means: Krum itself is tried
        away = -np.sign(honest.mean(axis=0))
        grid = np.linspace(0.0, bound_on_factor(honest, 2), 1500)
        taken = [g for g in grid if is_taken(honest, g * away, medoid=medoid)]
        assert factor >= max(taken, default=0.0) * (1 - 1e-8)
        assert is_taken(honest, factor * (1 - 1e-6) * away, medoid=medoid) or not taken


@pytest.mark.parametrize("seed", range(4))
def test_krum_tried_here_takes_what_the_rule_takes(seed):
    rng = np.random.default_rng(seed)
    f = 1 + seed % 3
    honest = rng.normal(size=(2 * f + 4, 4)) + rng.normal(size=4)
    alone, ruled = (FangKrum().factor(scene(honest, f, rule=rule)) for rule in (None, Krum(f)))
    assert alone == pytest.approx(ruled, rel=1e-6)


def test_with_partial_knowledge_supporters_are_added_until_one_is_taken():
    rng = np.random.default_rng(3)
    honest = rng.normal(size=(5, 4)) + 1.0
    factor = FangKrum(known="partial").factor(scene(honest, 5))
    away = -np.sign(honest.mean(axis=0))
    for copies in range(1, 6):
        bound = bound_on_factor(honest, copies)
        grid = np.linspace(0.0, bound, 400)
        taken = [g for g in grid if is_taken(honest, g * away, copies)]
        if taken:
            assert max(taken) <= factor <= max(taken) + bound / 399
            break
    assert FangKrum(known="partial").knowledge == "colluding"
    assert FangKrum().knowledge == "all"


def test_the_others_stay_in_the_ball_around_the_first():
    rows = FangKrum(eps=0.25).on(scene(f=4))
    first = FangKrum().on(scene(f=4))[0]
    np.testing.assert_array_equal(rows[0], first)
    apart = np.linalg.norm(rows[1:] - first, axis=1)
    assert (apart > 0.0).all()
    assert (apart <= 0.25).all()
    np.testing.assert_array_equal(FangKrum().on(scene(f=4)), [first] * 4)


@pytest.mark.parametrize("search", ["grid", "halving"])
@pytest.mark.parametrize("known", ["full", "partial"])
@pytest.mark.parametrize("h", [1, 3, 5])
def test_any_number_of_clients_is_answered(search, known, h, recwarn):
    for f in (1, 4):
        for size in (0.0, 1e-300, 1e300, np.nan):
            for rule in (None, Krum(f)):
                rows = FangKrum(known, search).on(scene(U[:h] * size, f, rule=rule))
                assert rows.shape == (f, 2)
                assert np.isfinite(rows).all()
    assert not recwarn.list


def test_where_krum_takes_none_the_model_is_sent_or_the_last_half():
    honest = np.ones((9, 3))  # all alike: nobody is nearer to them than they are
    np.testing.assert_array_equal(FangKrum().on(scene(honest, 1)), np.zeros((1, 3)))
    halved = FangKrum(search="halving").factor(scene(honest, 1))
    assert 5e-6 <= halved < 1e-5


def test_arguments_that_are_not_legal_are_named():
    for arguments, message in (
        ({"known": "none"}, "known is 'none', expected 'full' or 'partial'"),
        ({"search": "best"}, "search is 'best', expected 'grid' or 'halving'"),
        ({"eps": -1.0}, "eps is -1.0, expected a finite number >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            FangKrum(**arguments)
