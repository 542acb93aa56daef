from __future__ import annotations

import time
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_krum.kernel import exact, ranking, ways
from flwr_krum.kernel.device import numba_is_installed
from flwr_krum.kernel.pairwise import gram_distances, squared_distances
from flwr_krum.kernel.ranking import rank
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules import Krum, Medoid
from flwr_krum.rules.krum import krum_scores
from flwr_krum.rules.medoid import medoid_contrast, medoid_scores


def exact_score(V, i):
    """Return a client's sum of distances with 400 digits, from exact differences."""
    rows = [[Fraction(float(x)) for x in row] for row in V]
    with localcontext() as context:
        context.prec = 400
        total = Decimal(0)
        for row in rows:
            square = sum(((x - y) ** 2 for x, y in zip(row, rows[i], strict=True)), Fraction(0))
            total += (Decimal(square.numerator) / Decimal(square.denominator)).sqrt()
        return total


def beside_a_giant(giant, n=9, d=3, seed=0, spread=1e-3):
    rng = np.random.default_rng(seed)
    V = spread * rng.standard_normal((n, d))
    V[0] = giant * rng.standard_normal(d)
    return V


@pytest.fixture
def no_exact_arithmetic(monkeypatch):
    def refuse(*_):
        raise AssertionError("exact arithmetic was needed")

    monkeypatch.setattr(ways, "exact_squares", refuse)


@pytest.fixture
def looked_at(monkeypatch):
    """The numbers that every exact distance compared."""
    sizes = []
    original = exact.exact_squared_distance

    def counted(a, b):
        sizes.append(sum(x.size for x in a))
        return original(a, b)

    monkeypatch.setattr(exact, "exact_squared_distance", counted)
    return sizes


# --- the contrast of the medoid ---


@pytest.mark.parametrize("giant", [1e3, 1e10, 1e30])
@pytest.mark.parametrize("seed", range(5))
def test_beside_a_giant_the_contrast_alone_finds_the_medoid(giant, seed, no_exact_arithmetic):
    V = beside_a_giant(giant, seed=seed).astype(np.float32)
    scores = [exact_score(V, i) for i in range(len(V))]
    assert Medoid()(V).selected == (scores.index(min(scores)),)


def test_without_the_contrast_the_giant_swamps_the_scores():
    updates = ClientUpdates.from_matrix(beside_a_giant(1e30))
    scores = medoid_scores(squared_distances(updates).squared)
    assert len(set(scores[1:].tolist())) == 1
    exact = rank(updates, medoid_scores, 1)
    assert rank(updates, medoid_scores, 1, medoid_contrast).best == exact.best


SIZES = st.sampled_from([1e-100, 1e-30, 1e-3, 1.0, 1e3, 1e16, 1e30, 1e100])


@settings(max_examples=80, deadline=None)
@given(
    st.integers(3, 7),
    st.integers(1, 3),
    st.lists(SIZES, min_size=7, max_size=7),
    st.integers(0, 2**32 - 1),
)
def test_every_contrast_lies_within_its_error(n, d, sizes, seed):
    rng = np.random.default_rng(seed)
    V = rng.standard_normal((n, d)) * np.array(sizes[:n])[:, None]
    distances = squared_distances(ClientUpdates.from_matrix(V))
    exact = [exact_score(V, i) for i in range(n)]
    with np.errstate(all="ignore"):
        contrasts = [medoid_contrast(distances, pivot) for pivot in range(n)]
    with localcontext() as context:
        context.prec = 400
        for pivot, (gaps, errors) in enumerate(contrasts):
            for i in np.flatnonzero(np.isfinite(gaps) & np.isfinite(errors)):
                gap = (exact[i] - exact[pivot]) * Decimal(distances.scale)
                assert abs(Decimal(float(gaps[i])) - gap) <= Decimal(float(errors[i]))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 8),
    st.lists(SIZES, min_size=8, max_size=8),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_a_contrast_never_changes_the_choice(n, sizes, seed, repeated):
    rng = np.random.default_rng(seed)
    V = rng.standard_normal((n, 2)) * np.array(sizes[:n])[:, None]
    if repeated:
        V = V[rng.integers(0, n, n)]
    updates = ClientUpdates.from_matrix(V)
    best = rank(updates, medoid_scores, 1).best
    assert rank(updates, medoid_scores, 1, medoid_contrast).best == best


# --- exact arithmetic only where it is needed ---


def test_generic_updates_need_no_exact_arithmetic(no_exact_arithmetic):
    rng = np.random.default_rng(0)
    for _ in range(20):
        V = rng.standard_normal((12, 50))
        Krum(4)(V)
        Medoid()(V)


def test_a_tie_does(monkeypatch):
    calls = []
    original = exact.exact_squared_distance

    def counted(a, b):
        calls.append(1)
        return original(a, b)

    monkeypatch.setattr(exact, "exact_squared_distance", counted)
    assert Krum(1)(np.eye(6)).selected == (0,)
    assert 0 < len(calls) <= 21  # each pair at most once


def test_twins_tie_without_exact_arithmetic(no_exact_arithmetic):
    rng = np.random.default_rng(1)
    V = rng.standard_normal((9, 5))
    V[[2, 4, 7]] = 0.1 * V[4]
    assert Krum(3)(V).selected == (2,)


@pytest.mark.timed
def test_colluders_apart_by_less_than_a_normal_float_do_not_stall_a_round(looked_at):
    rng = np.random.default_rng(0)
    d = 10_000
    models = [[(1e-2 * rng.standard_normal(d)).astype(np.float32)] for _ in range(7)]
    models[0], models[1] = [np.full(d, 1e-310)], [np.full(d, 2e-310)]
    updates = ClientUpdates.from_layers(models, [np.zeros(d, np.float32)])
    Krum(2)(updates)
    assert 0 < sum(looked_at) <= 21 * d  # each pair at most once
    # Number by number, in fractions, it would take 50 times as long.
    assert quickest(models[0], models[1]) < 10 * quickest(models[2], models[3])


def quickest(a, b):
    """Return the CPU seconds of an exact distance: of several, what else runs delays not all."""
    seconds = []
    for _ in range(7):
        start = time.process_time()
        exact.exact_squared_distance(a, b)
        seconds.append(time.process_time() - start)
    return min(seconds)


# --- clients that are not finite ---


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_client_that_is_not_finite_comes_last_and_decides_nothing(value):
    rng = np.random.default_rng(2)
    V = rng.standard_normal((8, 3))
    alone = rank(ClientUpdates.from_matrix(V), partial(krum_scores, neighbours=3), 8)
    beside = np.insert(V, 4, value, axis=0)
    found = rank(ClientUpdates.from_matrix(beside), partial(krum_scores, neighbours=3), 8)
    assert found.best == tuple(i + (i >= 4) for i in alone.best)
    assert found.scores[4] == np.inf
    np.testing.assert_array_equal(np.delete(found.scores, 4), alone.scores)


def test_scores_are_in_the_units_of_the_input_beside_a_giant():
    V = beside_a_giant(1e140)
    found = rank(ClientUpdates.from_matrix(V), medoid_scores, 1)
    expected = [float(exact_score(V, i)) for i in range(len(V))]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)


@pytest.fixture
def no_patience(monkeypatch):
    """Let nothing of more than a thousand columns be compared exactly."""
    monkeypatch.setattr(exact, "LEAST_WORK", 20_000)
    monkeypatch.setattr(exact, "SHARE_OF_ROUND", 10**9)
    if numba_is_installed():
        numba_exact = pytest.importorskip("flwr_krum.kernel.numba_exact")
        monkeypatch.setattr(numba_exact, "_MOST_WINDOWS", 50)
        monkeypatch.setattr(numba_exact, "_SHARE_OF_ROUND", 10**9)


def nearly_tied(d=20_000):
    """Return two colluders who differ in one last bit each, on coordinates that nobody trains."""
    rng = np.random.default_rng(3)
    V = np.repeat(rng.standard_normal((1, d)), 7, axis=0).astype(np.float32)
    V[:5, 2:] += 1e-3 * rng.standard_normal((5, d - 2)).astype(np.float32)
    V[5, 0], V[6, 1] = (np.nextafter(V[i, i - 5], np.float32(9)) for i in (5, 6))
    return V


def test_an_exact_comparison_that_would_take_too_long_is_left_to_rounding_and_says_so(
    device, no_patience
):
    V = nearly_tied()
    updates = ClientUpdates.from_layers([[row] for row in V], device=device)
    for count in (1, 5):
        found = rank(updates, partial(krum_scores, neighbours=3), count)
        rounded = [sum(sorted(map(float, row))[1:4]) for row in squared_float64(V)]
        assert set(found.best[:2]) == {5, 6} & set(found.best)  # who is far is never in question
        assert np.array_equal(np.argsort(rounded)[2:count], found.best[2:count])
        if count == 1:
            assert found.note.startswith("undecided: the scores of 2 replies (places 5, 6 in the")
    small = ClientUpdates.from_layers([[row[:1000]] for row in V], device=device)
    assert rank(small, partial(krum_scores, neighbours=3), 1).note == ""


@cache
def scores_of_the_nearly_tied():
    """Return the exact scores of the two colluders."""
    V = nearly_tied()
    squares = [
        [sum((Fraction(float(x)) - Fraction(float(y))) ** 2 for x, y in zip(a, b, strict=True))
         for b in V]
        for a in V[5:]
    ]  # fmt: skip
    return [sum(sorted(row)[1:4]) for row in squares]


def test_with_patience_it_is_decided(device):
    V = nearly_tied()
    updates = ClientUpdates.from_layers([[row] for row in V], device=device)
    found = rank(updates, partial(krum_scores, neighbours=3), 2)
    scores = scores_of_the_nearly_tied()
    assert found.note == ""
    assert found.best == ((5, 6) if scores[0] <= scores[1] else (6, 5))


def squared_float64(V):
    rows = V.astype(np.float64)
    return [[float(((a - b) ** 2).sum()) for b in rows] for a in rows]


def test_what_is_looked_at_is_counted_and_not_timed(looked_at):
    rng = np.random.default_rng(0)
    for n, d in ((5, 50_000), (9, 100_000), (20, 20_000)):
        V = np.repeat(rng.standard_normal((1, d)), n, axis=0)
        V[np.arange(n), np.arange(n)] = np.nextafter(V[0, :n], 9.0)
        looked_at.clear()
        updates = ClientUpdates.from_layers([[row] for row in V], device="cpu:numpy")
        rank(updates, medoid_scores, 1)
        assert sum(looked_at) <= exact.LEAST_WORK + n * n * d // exact.SHARE_OF_ROUND


@pytest.mark.parametrize("giants", [(1e300,), (1e300, 1e150), (3e38,), (1e300, 1e30, 1e9)])
def test_giants_do_not_let_the_limit_choose_the_first_client_for_a_medoid(
    giants, device, no_patience
):
    V = 1e-3 * np.random.default_rng(0).standard_normal((9, 20_000))
    honest = V[1 + len(giants) :]
    V[0] += 1e3  # the liar who would win by his index
    V[1 : 1 + len(giants)] = np.reshape(giants, (-1, 1))
    updates = ClientUpdates.from_layers([[row] for row in V], device=device)
    found = Medoid()(updates)
    among = [sum(np.sqrt(((a - b) ** 2).sum()) for b in [*honest, V[0]]) for a in honest]
    assert found.selected == (1 + len(giants) + int(np.argmin(among)),)


def test_the_medoid_beside_a_giant_of_1e300_is_that_of_exact_arithmetic(device):
    V = 1e-3 * np.random.default_rng(1).standard_normal((9, 500))
    V[0], V[3] = V[0] + 1e3, 1e300
    updates = ClientUpdates.from_layers([[row] for row in V], device=device)
    scores = [exact_score(V, i) for i in range(len(V))]
    assert Medoid()(updates).selected == (scores.index(min(scores)),)


def test_roots_that_add_up_to_the_same_tie():
    """sqrt(2) + sqrt(8) = 3 sqrt(2), whose square is 18."""
    V = np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0], [0.0, 6.0], [3.0, 9.0], [4.0, 8.0]])
    found = rank(ClientUpdates.from_matrix(V), medoid_scores, 1)
    squares = {0: [2 << 2400, 8 << 2400, 0], 1: [18 << 2400, 0, 0], 2: [19 << 2400, 0, 0]}
    exact_scores = ranking._exact_scores(squares, medoid_scores)
    assert exact_scores[0] == exact_scores[1] < exact_scores[2]
    scores = [exact_score(V, i) for i in range(len(V))]
    assert found.best == (scores.index(min(scores)),)


@pytest.mark.parametrize("n", [4, 6, 9])
def test_a_ranking_by_differences_of_scores_names_every_client_once(n):
    # On a line those in the middle tie, or one is the best; the others follow by their scores.
    V = np.arange(n, dtype=np.float64).reshape(-1, 1)
    updates = ClientUpdates.from_layers([(row,) for row in V], (np.zeros(1),))
    found = rank(updates, medoid_scores, 1, medoid_contrast, gram_distances(updates))
    expected = sorted(range(n), key=lambda i: (sum(abs(i - k) for k in range(n)), i))
    assert found.best == (expected[0],)
    assert list(found.order) == expected


def test_what_is_undecided_is_said_with_how_close_it_is():
    scores = np.array([4.0, 9.0, 5.0, 4.5])
    said = ranking._undecided(scores, np.array([0, 2, 3]), "too close")
    assert "the scores of 3 replies (places 0, 2, 3 in" in said
    assert "differ by 2.0e-01 at most and came too close" in said
    assert "differ by 0.0e+00" in ranking._undecided(np.zeros(2), np.arange(2), "too close")
    assert "differ by 0.0e+00" in ranking._undecided(np.full(2, np.inf), np.arange(2), "too close")
    assert "places 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 ... in" in ranking._undecided(
        np.ones(11), np.arange(11), "too close"
    )


@pytest.mark.parametrize("k", [2, 3, 5, 6, 7, 10])
def test_sums_of_roots_that_are_equal_tie_though_their_roots_are_cut_off(k):
    # a sqrt(k) + b sqrt(k) = (a + b) sqrt(k), and one more in the last place is no tie.
    squares = {0: [k * 4, k * 9, 0], 1: [k * 25, 0, 0], 2: [k * 1, k * 1, k * 9], 3: [k * 25, 1, 0]}
    scores = ranking._exact_scores(squares, medoid_scores)
    assert scores[0] == scores[1] == scores[2] < scores[3]
