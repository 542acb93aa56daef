from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_krum.kernel import pairwise, threads
from flwr_krum.kernel.combine import combine
from flwr_krum.kernel.pairwise import gram_distances, sharper, squared_distances
from flwr_krum.kernel.ranking import rank
from flwr_krum.kernel.updates import PIECE
from flwr_krum.rules import ClientUpdates, Krum, Medoid, MultiKrum
from flwr_krum.rules.krum import krum_scores
from tests.flwr_krum import references
from tests.flwr_krum.hard_inputs import updates_of

pytest.importorskip("numba")
numba_loops = pytest.importorskip("flwr_krum.kernel.numba_loops")
numba_way = pytest.importorskip("flwr_krum.kernel.numba_way")
numba_exact = pytest.importorskip("flwr_krum.kernel.numba_exact")

NUMBA, NUMPY = "cpu:numba", "cpu:numpy"


@pytest.fixture(params=["joined", "apart"], autouse=True)
def _layers(request, monkeypatch):
    """Small layers lie in one piece, where large ones have a piece each; the kernels take both."""
    if request.param == "apart":
        monkeypatch.setattr("flwr_krum.kernel.updates.SMALL", 0)


def random_models(n, rng, sizes=(7, 300, 1, 2000), dtypes=(np.float32,) * 4, spread=1e-2):
    base = [rng.standard_normal(size) for size in sizes]
    models = [
        [
            (layer + spread * rng.standard_normal(layer.size)).astype(dtype)
            for layer, dtype in zip(base, dtypes, strict=True)
        ]
        for _ in range(n)
    ]
    return models, [layer.astype(dtype) for layer, dtype in zip(base, dtypes, strict=True)]


def by_long_double(models):
    """Squared distances by differences in extended precision."""
    rows = [np.concatenate(model).astype(np.longdouble) for model in models]
    return np.array([[((a - b) ** 2).sum() for b in rows] for a in rows])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 10, 21, 30])
@pytest.mark.parametrize("dtypes", [(np.float32,) * 4, (np.float64,) * 4, ("f4", "f8", "f4", "f8")])
def test_distances_lie_within_their_bounds_for_any_number_of_clients_and_float_type(n, dtypes):
    models, base = random_models(n, np.random.default_rng(n), dtypes=dtypes)
    updates = ClientUpdates.from_layers(models, base, device=NUMBA)
    distances = squared_distances(updates)
    assert distances.dot_error == np.inf  # by differences, not by the Gram matrix
    assert distances.coarse == (np.float32 in [np.dtype(dtype) for dtype in dtypes])
    exact = by_long_double(models)
    assert (np.abs(distances.squared - exact) <= distances.error).all()
    wanted = 1e-5 if distances.coarse else 1e-12
    assert (distances.error <= wanted * exact).all()
    assert not np.diagonal(distances.squared).any()
    np.testing.assert_array_equal(distances.squared, distances.squared.T)


def test_rows_that_are_computed_again_are_as_good_as_float64_has_them():
    models, base = random_models(11, np.random.default_rng(0))
    updates = ClientUpdates.from_layers(models, base, device=NUMBA)
    first = squared_distances(updates)
    again = sharper(updates, first, np.array([2, 9]))
    exact = by_long_double(models)
    for i in (2, 9):
        np.testing.assert_allclose(again.squared[i], exact[i].astype(float), rtol=1e-13)
        np.testing.assert_array_equal(again.squared[:, i], again.squared[i])
        assert (np.abs(again.squared[i] - exact[i]) <= again.error[i]).all()
        assert (again.error[i] <= 1e-12 * exact[i]).all()
    others = np.delete(np.arange(11), [2, 9])
    np.testing.assert_array_equal(
        again.squared[np.ix_(others, others)], first.squared[np.ix_(others, others)]
    )


def test_the_gram_matrix_that_follows_from_distances_is_that_of_the_offsets():
    models, base = random_models(9, np.random.default_rng(1))
    updates = ClientUpdates.from_layers(models, base, device=NUMBA)
    expected = gram_distances(updates).gram
    found = squared_distances(updates).gram
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.diagonal(expected).max())


@given(count=st.integers(1, 600), at=st.integers(0, 599), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_the_number_of_roundings_bounds_the_error_of_any_sum(count, at, seed):
    # One large square beside many that float32 rounds away when they are added to it singly.
    rng = np.random.default_rng(seed)
    V = np.zeros((4, count), np.float32)
    V[0] = rng.uniform(0, 2.0**-11, count)
    V[0, at % count] = 1.0
    found = squared_distances(ClientUpdates.from_layers([[row] for row in V], device=NUMBA))
    exact = sum(Fraction(float(x)) ** 2 for x in V[0])
    assert abs(Fraction(found.squared[0, 1]) - exact) <= Fraction(found.error[0, 1])


def test_no_chain_of_additions_is_longer_than_the_bound_on_roundings_says():
    # A term of 1 swallows every term of 2^-24 that is added to it afterwards, one by one.
    for count in range(1, numba_loops.FLUSH + 1):
        rows = np.zeros((numba_loops.TILE, count), np.float32)
        rows[0] = 2.0**-12
        rows[0, 0] = 1.0
        total = np.zeros((numba_loops.TILE, numba_loops.TILE))
        at, zero = addresses(rows), np.float32(0)
        numba_loops.add_some_pairs(at, at, 0, count, count, zero, zero, total)
        swallowed = count - 1 - round((float(total[0, 1]) - 1.0) * 2.0**24)
        assert 0 <= swallowed <= numba_way._additions(single=True) - 4
    assert numba_way._additions(single=True) < numba_loops.FLUSH / 2


@pytest.mark.parametrize(("read", "zero"), [("f4", "f4"), ("f4", "f8"), ("f8", "f8")])
@pytest.mark.parametrize("count", [1, 3, 4, 8, 9, 40, 1024, 1539, 5000])
def test_a_pairs_distance_has_the_same_bits_wherever_in_the_kernels_it_is_worked_out(
    read, zero, count
):
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((3 * numba_loops.TILE, count)).astype(read)
    at, size = addresses(rows), len(rows)
    zeros = np.dtype(read).type(0), np.dtype(zero).type(0)
    corners, tiles, norms = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    for chunk in (numba_loops.FLUSH, 2 * numba_loops.FLUSH):
        corners[:], tiles[:], norms[:] = 0.0, 0.0, 0.0
        numba_loops.add_all_pairs(at, at[0], 0, count, chunk, *zeros, corners, norms)
        numba_loops.add_some_pairs(at, at, 0, count, numba_loops.FLUSH, *zeros, tiles)
        assert (corners + corners.T).tobytes() == tiles.tobytes()
        assert norms.tobytes() == tiles[0].tobytes()
    wide = rows.astype(np.float64)
    exact = ((wide[:, None] - wide[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(tiles, exact, rtol=1e-4 if zero == "f4" else 1e-12)
    # The same pair has the same bits where it stands.
    moved = np.zeros((size, size))
    order = rng.permutation(size)
    numba_loops.add_some_pairs(at[order], at, 0, count, numba_loops.FLUSH, *zeros, moved)
    assert moved.tobytes() == tiles[order].tobytes()


def addresses(rows):
    return np.array([row.ctypes.data for row in rows], dtype=np.uintp)


def check_same_as_numpy(models, base, f):
    """The compiled path and NumPy choose the same clients and return the same bits."""
    by_device = [ClientUpdates.from_layers(models, base, device=d) for d in (NUMBA, NUMPY)]
    for rule in (Krum(f), MultiKrum(f), MultiKrum(f, m=len(models)), Medoid()):
        compiled_, plain = (rule(updates) for updates in by_device)
        assert compiled_.selected == plain.selected, rule
        assert compiled_.vector.tobytes() == plain.vector.tobytes(), rule
        np.testing.assert_allclose(compiled_.scores, plain.scores, rtol=1e-5)


@pytest.mark.parametrize("n", [5, 10, 20, 31])
@pytest.mark.parametrize("outlier", [1.0, 1e20, 1e30])
def test_the_same_clients_are_chosen_as_by_numpy_and_the_same_bits_come_back(n, outlier):
    rng = np.random.default_rng(n)
    models, base = random_models(n, rng)
    f = (n - 3) // 2
    for i in range(f):
        models[i] = [(outlier * rng.standard_normal(x.size)).astype(np.float32) for x in base]
    check_same_as_numpy(models, base, f)
    check_same_as_numpy(models, None, f)


def test_near_ties_that_float32_cannot_tell_apart_are_told_apart():
    # Scores that differ by 1e-9 of themselves: far below what float32 sums can bear.
    n, d = 12, 4000
    rng = np.random.default_rng(3)
    V = np.tile(rng.standard_normal(d).astype(np.float32), (n, 1))
    for i in range(n):
        V[i, i] += np.float32(64.0)
        V[i, 100 + i] = np.nextafter(V[i, 100 + i], np.float32(9 + (i * 7) % n))
    models = [[row] for row in V]
    exact = by_long_double(models)
    scores = np.sort(exact, axis=1)[:, : n - 2].sum(axis=1)
    spacing = np.diff(np.sort(scores)) / scores.mean()
    assert spacing.max() < 1e-7
    check_same_as_numpy(models, None, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clients_that_are_not_finite_are_infinitely_far(value, dtype):
    models, _ = random_models(9, np.random.default_rng(4), dtypes=(dtype,) * 4)
    models[0][1][5] = models[7][3][0] = value
    updates = ClientUpdates.from_layers(models, device=NUMBA)
    assert squared_distances(updates).finite.tolist() == [i not in (0, 7) for i in range(9)]
    assert not {0, 7} & set(MultiKrum(1, m=7)(updates).selected)


def test_values_whose_squares_overflow_float64_are_still_ranked():
    V = 1e200 * np.random.default_rng(5).standard_normal((9, 40))
    scores = references.krum_scores(references.exact_distances(V), 5)
    assert MultiKrum(2, m=9)(updates_of(V, NUMBA)).selected == references.best(scores, 9)


@pytest.mark.parametrize("kind", ["float16", "big endian", "unaligned", "mixed"])
def test_buffers_that_compiled_code_cannot_read_are_left_to_numpy(kind, monkeypatch):
    monkeypatch.setattr(
        "flwr_krum.kernel.updates.SMALL", 0
    )  # small layers would be copied, and readable
    models, base = random_models(9, np.random.default_rng(6))
    if kind == "float16":
        models, base = [[x.astype(np.float16) for x in m] for m in models], None
    elif kind == "big endian":
        models[3] = [x.astype(">f4") for x in models[3]]
    elif kind == "mixed":
        models[3] = [x.astype(np.float64) for x in models[3]]
    else:
        shifted = [np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1) for x in models[3]]
        assert not shifted[1].flags.aligned
        models[3] = shifted
    assert ClientUpdates.from_layers(models, base).buffers is None
    check_same_as_numpy(models, base, 2)


def test_sums_have_the_same_bits_on_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(7)
    d = 3 * PIECE + 17
    models = [[rng.standard_normal(d).astype(np.float32)] for _ in range(6)]
    weights = np.array([1.0, 0.3, 0.0, 1.0, 0.5, 0.25])
    found = []
    for most in (1, 2, 8):
        monkeypatch.setattr(threads, "threads", lambda most=most: most)
        for device in (NUMBA, NUMPY):
            updates = ClientUpdates.from_layers(models, device=device)
            found.append((device, squared_distances(updates).squared.tobytes()))
            found.append(("mean", combine(updates, weights[None] / weights.sum())[0].tobytes()))
    assert len(set(found)) == 3  # one per device, and one mean


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 13))
@settings(max_examples=40, deadline=None)
def test_weighted_means_have_the_bits_of_numpys(seed, n):
    rng = np.random.default_rng(seed)
    models, base = random_models(n, rng, dtypes=("f4", "f8", "f4", "f8"))
    weights = rng.choice([0.0, 1.0, 0.1, 1 / 3], n)
    weights[rng.integers(n)] = 1.0
    means = [
        combine(ClientUpdates.from_layers(models, base, device=device), weights[None])
        for device in (NUMBA, NUMPY)
    ]
    assert [x.tobytes() for x in means[0]] == [x.tobytes() for x in means[1]]


# --- equal models ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 1023, 1024, 5000, 200_000])
def test_fingerprints_are_equal_for_equal_models_and_for_no_others(dtype, d):
    rng = np.random.default_rng(d)
    V = np.repeat(rng.standard_normal((1, d)), 6, axis=0).astype(dtype)
    V[:, 0] = 0.0
    V[1, 0] = -0.0  # the same number
    V[2, d // 2] = np.nextafter(V[2, d // 2], dtype(9))
    V[3, -1] = np.nextafter(V[3, -1], dtype(-9))
    V[4] = V[4][::-1] + 1
    updates = ClientUpdates.from_layers([np.split(row, [d // 3]) for row in V])
    found = numba_exact.fingerprints(updates, updates.buffers, np.array([0, 1, 2, 3, 4, 5]))
    assert found[0] == found[1] == found[5]
    assert len(set(found.values())) == 4


def test_numbers_that_are_exchanged_between_columns_or_blocks_change_the_fingerprint():
    V = np.zeros((5, 4096))
    for i, column in enumerate((0, 1, 1024, 2049)):
        V[i, column] = 1.0
    updates = ClientUpdates.from_layers([[row] for row in V])
    found = numba_exact.fingerprints(updates, updates.buffers, np.arange(5))
    assert len(set(found.values())) == 5


@pytest.mark.parametrize("small", [1e-170, 5e-324])
def test_differences_whose_squares_vanish_need_no_second_pass_over_all(small, monkeypatch):
    monkeypatch.setattr(pairwise, "gram_distances", None)
    rng = np.random.default_rng(0)
    V = rng.standard_normal((8, 2000))
    V[:, 0] = 0.0
    V[1], V[2] = V[0], V[0]
    V[0, 0], V[1, 0], V[2, 0] = 5 * small, small, 2 * small
    updates = ClientUpdates.from_layers([[row] for row in V], device=NUMBA)
    found = rank(updates, partial(krum_scores, neighbours=1), 3)
    assert found.best == (1, 2, 0)


FREED = """
import numpy as np
from flwr_krum.kernel import numba_loops

rows = np.random.default_rng(0).standard_normal((32, 7))
at, zero = np.array([row.ctypes.data for row in rows], np.uintp), np.float64(0)
exact = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
every, some, norms = np.zeros((32, 32)), np.zeros((32, 32)), np.zeros(32)
numba_loops.add_all_pairs(at, at[0], 0, 7, 1024, zero, zero, every, norms)
numba_loops.add_some_pairs(at, at, 0, 7, 1024, zero, zero, some)
for found in (every + every.T, some):
    np.testing.assert_allclose(found, exact, atol=1e-12)
np.testing.assert_allclose(norms, exact[0], atol=1e-12)
"""


@pytest.mark.slow  # a program of its own loads the kernels
def test_the_kernels_read_nothing_that_is_freed():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_PERTURB_": "165"}
    done = subprocess.run([sys.executable, "-c", FREED], env=env, timeout=120, check=False)
    assert done.returncode == 0
