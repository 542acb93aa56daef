"""The damage of candidates without the models, against the rule called on the stacked rows."""

from dataclasses import dataclass

import numpy as np
import pytest

from flwr_krum.attacks import Scene
from flwr_krum.attacks.search import WIDE, Search, window_mean
from flwr_krum.kernel.combine import combine
from flwr_krum.kernel.sorting import Window
from flwr_krum.kernel.updates import BLOCK
from flwr_krum.rules import (
    RULES,
    Average,
    Bucketing,
    CenteredClipping,
    Choice,
    ClientUpdates,
    Clipping,
    DnC,
    Krum,
    MultiKrum,
    NearestNeighborMixing,
    NormBounding,
    OneMinusPKrum,
    Rule,
    TrimmedMean,
)

H, F, D = 9, 2, 5
STANDS_IN = {"root": lambda honest: honest.mean(axis=0), "step": lambda honest: 0 * honest[0]}
NAMES = [name for name in RULES if name != "1-p-krum"]
CHAINS = [RULES[name](F if name not in ("average", "norm-bounding") else None) for name in NAMES]
CHAINS += [NearestNeighborMixing(F) | rule for rule in CHAINS]
CHAINS += [
    OneMinusPKrum(F, seed=3),
    Clipping(C=1.5) | NearestNeighborMixing(F) | TrimmedMean(F),
    NormBounding(C=0.7),
    Bucketing(s=2, seed=1) | TrimmedMean(1),
    CenteredClipping(F, tau=0.5, steps=3, start="step"),
    MultiKrum(F, m=3),
]


def honest_updates(seed, h=H, d=D):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(h, d)) + rng.normal(size=d)


def scene(honest, rule, f=F, server_round=4):
    rng = np.random.default_rng(1)
    return Scene(honest, f, rng, server_round=server_round, rule=rule)


def called(rule, honest, rows, server_round=4):
    """Return the result of the rule itself on all rows, beside what the server would add."""
    V = np.vstack([honest, rows])
    added = {name: [STANDS_IN[name](honest)] for name in rule.server_rows}
    updates = ClientUpdates.from_layers([[v] for v in V], server_rows=added)
    return rule(updates, server_round=server_round).vector


@pytest.mark.parametrize("rule", CHAINS, ids=str)
def test_the_damage_is_that_of_the_rule_called_on_all_rows(rule):
    for seed in range(4):
        honest = honest_updates(seed)
        rng = np.random.default_rng(100 + seed)
        directions = rng.normal(size=(3, D))
        C = rng.normal(size=(F, H + 3)) * rng.choice([0.05, 0.5], size=(F, H + 3))
        if seed % 2:
            C[1] = C[0]
        rows = C @ np.vstack([honest, directions])
        mean = honest.mean(axis=0)
        result = called(rule, honest, rows)
        far = Search(scene(honest, rule), directions)
        back = Search(scene(honest, rule), directions, goal="progress")
        np.testing.assert_allclose(far.rows(C), rows, rtol=1e-12)
        for found in (far.damage(C), far.damage_of_rows(rows)):
            assert found == pytest.approx(np.linalg.norm(result - mean), rel=1e-9)
        for found in (back.damage(C), back.damage_of_rows(rows)):
            assert found == pytest.approx(-result @ mean, rel=1e-9, abs=1e-9)
        weights = far.weights(C)
        if weights is not None:
            stands_in = [STANDS_IN[name](honest) for name in rule.server_rows]
            full = np.vstack([honest, rows, *[row[None] for row in stands_in]])
            if not stands_in:
                np.testing.assert_allclose(weights @ full, result, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e-120, 1e120])
def test_a_model_of_several_blocks_of_columns_is_searched_whole(size):
    d = 2 * BLOCK + 5
    rng = np.random.default_rng(7)
    honest = size * (rng.normal(size=(H, d)) * np.linspace(0.1, 3.0, d) + 2.0)
    directions = size * rng.normal(size=(2, d))
    C = rng.normal(size=(F, H + 2)) * 0.3
    rows = C @ np.vstack([honest, directions])
    for rule in (Krum(F), MultiKrum(F, m=2)):
        result = called(rule, honest, rows)
        far = Search(scene(honest, rule), directions).damage(C)
        assert far == pytest.approx(norm(result - honest.mean(axis=0)), rel=1e-9)
    if size == 1.0:
        back = Search(scene(honest, Krum(F)), directions, goal="progress").damage(C)
        result = called(Krum(F), honest, rows)
        assert back == pytest.approx(-result @ honest.mean(axis=0), rel=1e-9)


def norm(vector):
    largest = np.abs(vector).max()
    return largest * np.linalg.norm(vector / largest)


def test_an_update_that_is_sent_again_is_no_distance_away():
    honest = honest_updates(0) + 1e6
    search = Search(scene(honest, Krum(F)))
    again = np.eye(H)[3]
    assert search.damage(again) == pytest.approx(
        np.linalg.norm(called(Krum(F), honest, honest[[3, 3]]) - honest.mean(axis=0)), rel=1e-9
    )


def test_a_large_common_offset_hides_nothing():
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(H, D)) * 1e-3 + 1e5
    for g in (0.0, 1e-9, 1.0, 40.0):
        search = Search(scene(honest, MultiKrum(F)), honest.std(axis=0)[None])
        C = search.mean_coefficients + g * np.eye(H + 1)[-1]
        direct = called(MultiKrum(F), honest, search.rows(C)) - honest.mean(axis=0)
        assert search.damage(C) == pytest.approx(np.linalg.norm(direct), rel=1e-5)


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_windows_are_averaged_as_the_second_pass_does(k):
    rng = np.random.default_rng(k)
    rows = rng.integers(-3, 4, size=(k, 200)).astype(float)  # many are equally close
    for keep in range(1, k + 1):
        for trim in (None, 0, (k - 1) // 2):
            window = Window(0, k, keep, trim)
            (expected,) = combine(ClientUpdates.from_matrix(rows), np.eye(k), window)
            np.testing.assert_allclose(window_mean(rows, window), expected, rtol=1e-12, atol=1e-12)


def test_what_is_shortened_to_one_length_is_sorted_once_whatever_its_factor(monkeypatch):
    honest, sorts = honest_updates(5, d=WIDE), []

    def counted(*arguments):
        sorts.append(arguments)
        return combine(*arguments)

    monkeypatch.setattr("flwr_krum.attacks.search.combine", counted)
    rule = Clipping(C=0.1) | NearestNeighborMixing(F) | TrimmedMean(F)
    search = Search(scene(honest, rule))
    damages = [search.damage(-g * search.mean_coefficients) for g in (1e1, 1.7e1, 1e5, 1e-4, 2e-4)]
    assert len(sorts) == 3  # the first three rows are one; the last two are not long
    for damage, g in zip(damages, (1e1, 1.7e1, 1e5, 1e-4, 2e-4), strict=True):
        rows = np.tile(-g * honest.mean(axis=0), (F, 1))
        direct = np.linalg.norm(called(rule, honest, rows) - honest.mean(axis=0))
        assert damage == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Krum(4), r"the rule in force cannot run on h \+ f = 9 clients: Krum needs 2f \+ 2 < n"),
        (NearestNeighborMixing(3) | Krum(4), r"cannot run on h \+ f = 9 clients"),
    ],
)
def test_a_rule_that_could_not_run_is_an_error(rule, message):
    with pytest.raises(ValueError, match=message):
        Search(scene(honest_updates(0, h=7), rule))


def test_a_rule_without_an_f_bears_as_many_as_it_can():
    honest = honest_updates(0)
    C = -3.0 * np.full(H, 1 / H)
    free, told = (Search(scene(honest, rule)).damage(C) for rule in (Krum(), Krum(4)))
    assert free == told
    assert Search(scene(honest, MultiKrum(F, m=10))).damage(C) == pytest.approx(
        Search(scene(honest, MultiKrum(F))).damage(C)
    )  # as in a round: never more than n - f


@dataclass(frozen=True)
class Asking(Average):
    """Asks for a row that nobody knows."""

    @property
    def server_rows(self):
        return ("oracle",)


@dataclass(frozen=True)
class Moody(Rule):
    """Runs on some updates alone, and makes no number of others."""

    def least(self, f):
        return 1

    def choose(self, geometry, server_round):
        if geometry.gram[-1, -1] > 100.0:
            raise np.linalg.LinAlgError("no convergence")
        scale = np.nan if geometry.gram[-1, -1] > 50.0 else 1.0
        return Choice(np.eye(geometry.n)[-1:] * scale)


def test_a_row_that_nobody_can_guess_is_an_error():
    with pytest.raises(ValueError, match=r"asks the server for \['oracle'\]"):
        Search(scene(honest_updates(0), Asking()))


def test_what_is_no_number_is_infinite_and_what_stops_the_rule_is_nothing():
    search = Search(scene(np.eye(3), Moody()))
    values = [search.damage(g * np.eye(3)[0]) for g in (1.0, 8.0, 20.0)]
    assert values == [pytest.approx(np.sqrt(2 / 3)), np.inf, -np.inf]
    rows = search.rows(np.eye(3)[0])
    assert [search.damage_of_rows(g * rows) for g in (8.0, 20.0)] == [np.inf, -np.inf]


@pytest.mark.parametrize("size", [1e-200, 1e305])
@pytest.mark.parametrize("name", NAMES)
def test_updates_whose_squares_no_float_holds_do_not_stop_the_search(name, size, recwarn):
    rule = CHAINS[NAMES.index(name)]
    honest = honest_updates(0) * size
    search = Search(scene(honest, rule), np.sign(honest[:1]) * size)
    for goal in ("distance", "progress"):
        search.goal = goal
        for factor in (0.0, 1.0, 1e3, 1e300):
            C = factor * np.eye(H + 1)[-1]
            assert not np.isnan(search.damage(C))
            assert not np.isnan(search.damage_of_rows(search.rows(C)))
    assert not recwarn.list


def test_for_an_update_that_is_not_finite_stands_the_mean_of_the_others():
    honest = honest_updates(0)
    spoiled, mended = honest.copy(), honest.copy()
    spoiled[[2, 4]] = [[np.nan] * D, [1.0] * (D - 1) + [-np.inf]]
    mended[[2, 4]] = np.delete(honest, [2, 4], axis=0).mean(axis=0)
    C = -2.0 * np.full(H, 1 / H)
    assert Search(scene(spoiled, Krum(F))).damage(C) == Search(scene(mended, Krum(F))).damage(C)
    nobody = np.full((H, D), np.inf)
    assert Search(scene(nobody, Krum(F))).damage(C) == 0.0


def test_a_rule_that_draws_draws_the_same_for_every_candidate():
    honest = honest_updates(0, d=40)
    for rule in (DnC(F, columns=5), Bucketing(s=2) | TrimmedMean(1)):
        search = Search(scene(honest, rule))
        assert len({search.damage(-np.full(H, 1 / H)) for _ in range(5)}) == 1
