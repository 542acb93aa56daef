"""Inner products in whole numbers, against the squares that plain exact arithmetic gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_krum.kernel import exact, threads
from flwr_krum.kernel.updates import ClientUpdates

pytest.importorskip("numba")
numba_exact = pytest.importorskip("flwr_krum.kernel.numba_exact")
numba_windows = pytest.importorskip("flwr_krum.kernel.numba_windows")

KINDS = {
    "plain": lambda V, rng: V,
    "wide": lambda V, rng: V * 2.0 ** rng.integers(-60, 60, V.shape),
    "very wide": lambda V, rng: V * 2.0 ** rng.integers(-120, 20, V.shape),
    "a giant": lambda V, rng: V * np.where(np.arange(len(V)) == 1, 1e30, 1.0)[:, None],
    "nearly equal": lambda V, rng: V[:1] * (1.0 + 2.0**-20 * np.eye(*V.shape)),
    "pruned": lambda V, rng: np.where(rng.random(V.shape) < 0.7, -0.0, V),
    "all zero": lambda V, rng: 0.0 * V,
    "zero but one": lambda V, rng: V * (np.arange(len(V)) == 0)[:, None],
    "whole": lambda V, rng: np.round(V),
}
DOUBLE = {
    "1e300": lambda V, rng: V * np.where(np.arange(len(V)) == 1, 1e300, 1.0)[:, None],
    "both ends": lambda V, rng: V * 10.0 ** (300 - 600 * (np.arange(len(V)) % 2))[:, None],
    "ladder": lambda V, rng: V * 10.0 ** (-3.0 * (np.arange(V.shape[1]) % 100)),
    "5e-324 beside 1": lambda V, rng: np.where(rng.random(V.shape) < 0.1, 5e-324, V),
    "some blocks do not fit": lambda V, rng: V * np.where(np.arange(V.shape[1]) == 0, 1e-200, 1.0),
    "all subnormal": lambda V, rng: V * 1e-310,
}


def squares_of(V, rows, cuts=()):
    models = [np.split(row, cuts) for row in V]
    updates = ClientUpdates.from_layers(models)
    assert updates.buffers is not None
    found = numba_exact.exact_squares(updates, updates.buffers, rows)
    assert found == exact.exact_squares(updates, rows)
    return found


@pytest.mark.parametrize("d", [1, 7, 1024, 1025, 5000])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_are_those_of_plain_exact_arithmetic(dtype, kind, d):
    rng = np.random.default_rng(d)
    V = KINDS[kind](rng.standard_normal((5, d)), rng).astype(dtype)
    for rows in ([0], [1, 3], [0, 1, 2, 3, 4]):
        squares_of(V, rows)


@pytest.mark.parametrize("kind", DOUBLE)
def test_squares_of_doubles_are_exact_over_their_whole_range(kind):
    rng = np.random.default_rng(0)
    squares_of(DOUBLE[kind](rng.standard_normal((4, 3000)), rng), [0, 1, 3])


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6).flatmap(lambda d: st.lists(
    st.lists(FLOATS, min_size=d, max_size=d), min_size=2, max_size=4)))  # fmt: skip
def test_any_doubles_at_all(rows):
    squares_of(np.array(rows), [0, 1])


def test_layers_of_any_length_and_both_dtypes_add_up():
    rng = np.random.default_rng(2)
    V = rng.standard_normal((4, 200_000)).astype(np.float32)
    squares_of(V, [0, 2], cuts=[1, 2, 3, 1030, 60_000])
    models = [[row[:150_000], row[150_000:].astype(np.float64) / 3.0] for row in V]
    updates = ClientUpdates.from_layers(models)
    found = numba_exact.exact_squares(updates, updates.buffers, [1, 3])
    assert found == exact.exact_squares(updates, [1, 3])


def test_neither_threads_nor_batches_of_rows_change_anything(monkeypatch):
    rng = np.random.default_rng(3)
    V = rng.standard_normal((6, 70_000)) * 2.0 ** rng.integers(-60, 0, (6, 70_000))
    updates = ClientUpdates.from_layers([[row] for row in V])
    expected = numba_exact.exact_squares(updates, updates.buffers, list(range(6)))
    for count in (1, 2, 8):
        monkeypatch.setattr(threads, "threads", lambda count=count: count)
        monkeypatch.setattr(numba_exact, "_MOST_DIGITS", 98 * 6 * count)
        assert numba_exact.exact_squares(updates, updates.buffers, list(range(6))) == expected


def test_more_windows_than_a_round_bears_are_not_taken(monkeypatch):
    rng = np.random.default_rng(4)
    plain = rng.standard_normal((9, 50_000))
    wide = plain * 2.0 ** rng.integers(-400, 0, plain.shape)
    plain, wide = (ClientUpdates.from_layers([[row] for row in V]) for V in (plain, wide))
    needed = 4 * 49 * (9 + 8 + 7)
    monkeypatch.setattr(numba_exact, "_SHARE_OF_ROUND", 10**12)
    monkeypatch.setattr(numba_exact, "_MOST_WINDOWS", needed)
    assert numba_exact.exact_squares(plain, plain.buffers, [0, 1]) is not None
    assert numba_exact.exact_squares(wide, wide.buffers, [0, 1]) is None
    monkeypatch.setattr(numba_exact, "_MOST_WINDOWS", needed - 500)
    assert numba_exact.exact_squares(plain, plain.buffers, [0, 1]) is None


def test_blocks_that_do_not_fit_are_counted_as_plain_differences(monkeypatch):
    V = np.random.default_rng(5).standard_normal((4, 3000))
    V[:, 0] = 1e-200
    updates = ClientUpdates.from_layers([[row] for row in V])
    monkeypatch.setattr(exact, "SHARE_OF_ROUND", 10**12)
    monkeypatch.setattr(exact, "LEAST_WORK", 5 * 1024)
    assert numba_exact.exact_squares(updates, updates.buffers, [0, 1]) is not None
    monkeypatch.setattr(exact, "LEAST_WORK", 5 * 1024 - 1)
    assert numba_exact.exact_squares(updates, updates.buffers, [0, 1]) is None


def test_blocks_that_do_not_fit_are_squared_once_for_each_pair(monkeypatch):
    V = np.random.default_rng(6).standard_normal((4, 3000))
    V[:, 0] = 1e-200
    updates = ClientUpdates.from_layers([[row] for row in V])
    squared = []

    def noted(a, b):
        squared.append((float(a[0][1]), float(b[0][1])))
        return exact.exact_squared_distance(a, b)

    monkeypatch.setattr(numba_exact, "exact_squared_distance", noted)
    monkeypatch.setattr(numba_exact, "_MOST_DIGITS", 98 * 4 * 3)  # two clients at a time
    found = numba_exact.exact_squares(updates, updates.buffers, [0, 1, 3])
    assert found == exact.exact_squares(updates, [0, 1, 3])
    assert len(squared) == len({frozenset(pair) for pair in squared}) == 3 + 2 + 1
