"""Arrays in files: block by block what NumPy has in memory, and every rule's result bit for bit."""

import os
from dataclasses import replace

import numpy as np
import pytest

from flwr_krum.kernel import stored
from flwr_krum.kernel.arrays import are_finite
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.stored import StoredArray, StoredFile
from flwr_krum.kernel.updates import PIECE, ClientUpdates
from flwr_krum.rules import MIXINGS, RULES
from tests.flwr_krum.test_every_rule import build, enough, middle

D = PIECE + 5000
"""Columns of more than one task, in layers that no task ends with."""


@pytest.fixture
def file(tmp_path):
    return StoredFile(os.open(tmp_path / "numbers", os.O_RDWR | os.O_CREAT))


def in_file(array, file):
    """Return an array as one that lies at the end of a file."""
    start = -(-os.fstat(file.descriptor).st_size // 64) * 64
    os.pwrite(file.descriptor, array.tobytes(), start)
    return StoredArray(file, start, array.dtype, array.dtype, array.shape)


def moved(updates, file, clients):
    """Return updates of which some clients' layers lie in a file."""
    models = [
        tuple(in_file(layer, file) for layer in model) if i in clients else model
        for i, model in enumerate(updates.models)
    ]
    return replace(updates, models=tuple(models))


def federation(n, dtypes=("f4", "f4", "f4"), seed=0, device="cpu"):
    """Return updates of layers with a counter and an empty one; two clients are the same."""
    rng = np.random.default_rng(seed)
    sizes = (70_001, 0, D - 70_001)
    base = [np.zeros(k, t) for k, t in zip(sizes, dtypes, strict=True)] + [np.arange(3)]
    models = [
        [rng.standard_normal(k).astype(t) for k, t in zip(sizes, dtypes, strict=True)]
        + [rng.integers(9, size=3)]
        for _ in range(n)
    ]
    models[n // 2] = models[0]
    models[1] = [layer * 1000 if layer.dtype.kind == "f" else layer for layer in models[1]]
    return ClientUpdates.from_layers(models, base, device=device)


def with_rows(rule, updates):
    rows = {name: tuple(middle(updates.models)) for name in rule.server_rows}
    return replace(updates, server_rows=rows)


def alike(found, expected):
    """Say whether two aggregates are the same to the last bit."""
    same = all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(found.layers, expected.layers, strict=True)
    )
    scores = np.array_equal(
        *(np.array(x.scores, dtype=float) for x in (found, expected)), equal_nan=True
    )
    return same and found.selected == expected.selected and scores


@pytest.mark.parametrize("device", ["cpu:numpy", "cpu:numba"])
@pytest.mark.parametrize("name", [*RULES, *(f"{mixing} | median" for mixing in MIXINGS)])
def test_a_rule_finds_the_same_bits_wherever_the_models_lie(name, device, file):
    rule = build(name, unit=300.0).seeded(5)
    updates = with_rows(rule, federation(enough(rule), device=device))
    n = updates.n
    expected = rule(updates, server_round=1)
    assert alike(rule(moved(updates, file, range(1, n)), server_round=1), expected)


HARD = ["krum", "multi-krum", "medoid", "geometric-median", "median"]


@pytest.mark.parametrize("device", ["cpu:numpy", "cpu:numba"])
@pytest.mark.parametrize("dtypes", ["f2 f4 f8", "f8 f8 >f8"])
@pytest.mark.parametrize("name", HARD)
def test_dtypes_nan_inf_and_ties_change_nothing(name, dtypes, device, file):
    rule = build(name)
    updates = with_rows(rule, federation(enough(rule), dtypes.split(), device=device))
    models = [[layer.copy() for layer in model] for model in updates.models]
    models[2][2][-1], models[3][0][5] = np.nan, np.inf  # in the last and in the first task
    for k, layer in enumerate(models[4][:3]):
        layer[:] = -models[5][k]  # as far from the model as the other is
    updates = replace(updates, models=tuple(map(tuple, models)))
    if name in ("krum", "multi-krum", "medoid"):
        expected = rule(updates)
        assert alike(rule(moved(updates, file, range(updates.n))), expected)
        assert not {2, 3} & set(expected.selected)
    sound = updates.subset([i for i in range(updates.n) if i not in (2, 3)] + [0, 1])
    assert alike(rule(moved(sound, file, range(sound.n))), rule(sound))


@pytest.mark.parametrize("device", ["cpu:numpy", "cpu:numba"])
def test_distances_and_their_bounds_are_those_of_memory(device, file):
    updates = federation(9, device=device)
    here, there = (ClientGeometry(u) for u in (updates, moved(updates, file, range(9))))
    for of in ("squared", "error", "gram"):
        assert np.array_equal(getattr(here.distances, of), getattr(there.distances, of))
    assert np.array_equal(here.gram, there.gram)
    chosen = np.array([0, D - 1, 70_000, 70_001, 5])
    assert np.array_equal(here.columns(chosen), there.columns(chosen))


def test_what_a_stored_array_says_of_its_numbers_is_what_numpy_says(file, monkeypatch):
    monkeypatch.setattr(stored, "BLOCK", 7)
    monkeypatch.setattr(stored, "AHEAD", 16)
    rng = np.random.default_rng(1)
    for dtype in ("f2", "f4", ">f8", "i8", "u1", "?"):
        array = (rng.standard_normal((5, 9)) * 50).astype(dtype)
        kept = in_file(array, file)
        flat = array.ravel()
        assert (kept.size, kept.dtype, kept.shape) == (array.size, array.dtype, array.shape)
        assert np.array_equal(np.asarray(kept), array)
        assert np.array_equal(kept.ravel()[3:44], flat[3:44])
        assert np.array_equal(kept.ravel()[40:900], flat[40:900])
        places = rng.permutation(45)[:20]
        assert np.array_equal(kept.ravel()[places], flat[places])
        assert (kept.min(), kept.max()) == (array.min(), array.max())
        wide = np.dtype("f8")
        assert np.array_equal(np.asarray(kept.astype(wide)), array.astype(wide))
        assert kept.astype(wide).dtype == wide


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_found_in_whatever_block(bad, file, monkeypatch):
    monkeypatch.setattr(stored, "BLOCK", 7)
    for dtype in ("f2", "f4", "f8"):
        array = np.ones(30, dtype)
        assert are_finite([in_file(array, file)])
        array[29] = bad
        assert not are_finite([in_file(np.ones(3, dtype), file), in_file(array, file)])


def test_what_was_taken_from_the_file_is_not_read_as_zeros(file):
    kept = in_file(np.ones(3000), file)
    os.ftruncate(file.descriptor, 100)
    with pytest.raises(EOFError, match="after its round"):
        kept.ravel()[:3000]


def test_a_file_is_closed_with_the_last_array_in_it(tmp_path):
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    kept = in_file(np.ones(3), StoredFile(descriptor)).ravel()
    assert kept[:3].tolist() == [1, 1, 1]
    del kept
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_no_more_is_held_than_the_columns_at_work(file):
    import tracemalloc

    updates = moved(federation(20), file, range(20))
    rule = build("multi-krum")
    rule(updates)
    tracemalloc.start()
    result = rule(updates)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.selected
    assert peak < 20 * 4 * D * 1.3  # a task's columns and the result, where D is one task
