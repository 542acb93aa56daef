from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flwr_krum.kernel.updates as updates_module
from flwr_krum.kernel.combine import combine
from flwr_krum.kernel.updates import BLOCK
from flwr_krum.rules import Average, ClientUpdates, Krum, Medoid, MultiKrum, TrimmedMean

SHAPES = ((2, 3), (), (4,), (0,), (1, 2, 2))


def random_models(n, rng, dtypes=(np.float32, np.float64, np.float16, np.float32, np.float64)):
    return [
        [
            np.asarray(rng.standard_normal(shape)).astype(t)
            for shape, t in zip(SHAPES, dtypes, strict=True)
        ]
        for _ in range(n)
    ]


def matrix(models):
    """Flatten in float64, as only a test may."""
    return np.array([np.concatenate([x.astype(float).ravel() for x in m]) for m in models])


def offsets(updates, width=BLOCK):
    blocks = [block.copy() for block in updates.offset_blocks(width)]
    return np.concatenate(blocks, axis=1) if blocks else np.empty((updates.n, 0))


# --- what is held ---


def test_models_are_held_without_a_copy_and_never_changed():
    rng = np.random.default_rng(0)
    models, base = random_models(6, rng), random_models(1, rng)[0]
    for layer in [layer for model in [*models, base] for layer in model]:
        layer.setflags(write=False)
    before = [[layer.tobytes() for layer in model] for model in [*models, base]]
    updates = ClientUpdates.from_layers(models, base)
    for held, given_ in zip(updates.models, models, strict=True):
        assert all(a is b for a, b in zip(held, given_, strict=True))
    for rule in (Krum(1), MultiKrum(1), Medoid(), Average()):
        assert not any(layer.flags.writeable for layer in rule(updates).layers)
    assert [[layer.tobytes() for layer in model] for model in [*models, base]] == before


def test_the_extra_memory_is_one_output_and_a_block_per_client():
    n, size = 12, 400_000
    rng = np.random.default_rng(1)
    models = [[rng.standard_normal(size).astype(np.float32)] * 3 for _ in range(n)]
    updates = ClientUpdates.from_layers(models, models[0])
    MultiKrum(2)(updates)
    tracemalloc.start()
    result = MultiKrum(2)(updates)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    output = sum(layer.nbytes for layer in result.layers)
    assert peak < output + 6 * n * BLOCK * 8
    assert peak < n * size * 4 * 3 / 5  # far less than one copy of all the models


def test_n_and_d_count_clients_and_float_coordinates():
    updates = ClientUpdates.from_layers([[np.zeros((2, 3)), np.array(5), np.zeros(4)]] * 3)
    assert (updates.n, updates.d) == (3, 10)
    assert updates.float_layers == (0, 2)


# --- offsets ---


@pytest.mark.parametrize("width", [1, 2, 3, 7, 16, 17, 18, BLOCK])
def test_the_blocks_are_the_offsets_from_the_global_model_in_order(width):
    rng = np.random.default_rng(2)
    models, base = random_models(5, rng), random_models(1, rng)[0]
    np.testing.assert_array_equal(offsets(ClientUpdates.from_layers(models), width), matrix(models))
    np.testing.assert_array_equal(
        offsets(ClientUpdates.from_layers(models, base), width), matrix(models) - matrix([base])
    )
    for block in ClientUpdates.from_layers(models).offset_blocks(width):
        assert block.shape[1] <= width
        assert block.dtype == np.float64


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_layers_longer_than_a_block_lose_nothing_at_the_border(size):
    rng = np.random.default_rng(size)
    models = [[rng.standard_normal(3), rng.standard_normal(size)] for _ in range(3)]
    updates = ClientUpdates.from_layers(models, models[1])
    np.testing.assert_array_equal(offsets(updates), matrix(models) - matrix(models[1:2]))


def test_offsets_of_float32_are_taken_in_float64():
    w = np.array([1000.0], np.float32)
    near = np.nextafter(w, np.float32(2000), dtype=np.float32)
    tiny = np.array([1e-10], np.float32)
    for model in (near, tiny):
        exact = float(Fraction(float(model[0])) - 1000)
        assert offsets(ClientUpdates.from_layers([[model]], [w]))[0, 0] == exact


def test_fortran_and_strided_layers_are_read_in_their_own_order():
    base = np.arange(24.0).reshape(4, 6)
    models = [[np.asfortranarray(base)], [base.copy()], [np.repeat(base, 2, axis=0)[::2]]]
    np.testing.assert_array_equal(offsets(ClientUpdates.from_layers(models)), [base.ravel()] * 3)
    for layer in Average()(ClientUpdates.from_layers(models)).layers:
        np.testing.assert_array_equal(layer, base)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_how_a_vector_is_cut_into_layers_does_not_change_what_a_rule_does(seed, cuts):
    V = np.random.default_rng(seed).integers(-4, 5, (7, 12)).astype(float)
    borders = sorted(cuts)
    models = [np.split(row, borders) for row in V]
    for rule in (Krum(2), MultiKrum(2), Medoid(), Average()):
        whole, parts = rule(V), rule(ClientUpdates.from_layers(models))
        assert parts.selected == whole.selected
        np.testing.assert_array_equal(parts.vector, whole.vector)


# --- results ---


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("device", ["cpu:numpy", "cpu:numba"])
def test_whether_layers_are_joined_does_not_change_what_a_rule_does(monkeypatch, device, dtype):
    if device == "cpu:numba":
        pytest.importorskip("numba")
    rng = np.random.default_rng(5)
    models, base = random_models(9, rng, [dtype] * 5), random_models(1, rng, [dtype] * 5)[0]
    for model in (*models, base):
        model.insert(1, np.asarray(rng.integers(9), np.int64))
    results = []
    for small in (updates_module.SMALL, 0):
        monkeypatch.setattr(updates_module, "SMALL", small)
        updates = ClientUpdates.from_layers(models, base, device=device)
        assert len(updates.piece_dtypes) == (1 if small else 5)
        for rule in (Krum(2), MultiKrum(2), Medoid(), Average()):
            results.append((rule(updates), TrimmedMean(2)(updates).layers))
    for (joined, trimmed), (apart, trimmed_apart) in zip(results[:4], results[4:], strict=True):
        assert joined.selected == apart.selected
        for a, b in zip([*joined.layers, *trimmed], [*apart.layers, *trimmed_apart], strict=True):
            assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
        if joined.scores is not None:
            np.testing.assert_allclose(joined.scores, apart.scores, rtol=1e-5)


@pytest.mark.parametrize("small", [0, updates_module.SMALL])
def test_what_is_at_the_addresses_lives_as_long_as_they_do(monkeypatch, small):
    # Two threads may each make pieces, one of which is then forgotten by all but the addresses.
    monkeypatch.setattr(updates_module, "SMALL", small)
    rng = np.random.default_rng(6)
    updates = ClientUpdates.from_layers(random_models(4, rng, [np.float32] * 5))
    buffers = updates.buffers
    held = [[piece.ctypes.data for piece in model] for model in buffers.pieces]
    np.testing.assert_array_equal(np.array(held, np.uintp).T, buffers.clients)
    assert buffers.of(np.array([2])).pieces is buffers.pieces


def test_only_layers_of_one_dtype_and_few_numbers_are_joined():
    pieces = lambda layers, n: len(  # noqa: E731
        ClientUpdates.from_layers([layers] * n).piece_dtypes
    )
    pair = [np.zeros(100, np.float32)] * 2
    most = updates_module.SMALL // 200
    assert (pieces(pair, most), pieces(pair, most + 1)) == (1, 2)
    assert pieces([*pair, np.zeros(1)], 3) == 3


def test_dtype_and_shape_of_every_layer_are_kept():
    models = random_models(7, np.random.default_rng(3))
    for base in (None, models[2]):
        updates = ClientUpdates.from_layers(models, base)
        for rule in (Krum(2), MultiKrum(2), Medoid(), Average()):
            for layer, given_ in zip(rule(updates).layers, models[0], strict=True):
                assert (layer.dtype, layer.shape) == (given_.dtype, given_.shape)


def test_the_result_has_the_dtypes_of_the_global_model_whatever_the_clients_send():
    base = [np.zeros(3, np.float32), np.zeros(2, np.float16)]
    sent = [[np.full(3, i, np.float64), np.full(2, i, np.float32)] for i in range(5)]
    for rule in (Krum(1), MultiKrum(1)):
        layers = rule(ClientUpdates.from_layers(sent, base)).layers
        assert [layer.dtype for layer in layers] == [np.float32, np.float16]


def test_krum_returns_the_winner_bit_for_bit_and_without_a_copy():
    special = np.array([-0.0, 5e-324, 0.1, -1e-310, 1.7e308])
    models = [[special.copy(), np.array([np.float16(0.1)])] for _ in range(4)]
    models.append([special * 0.5, np.array([np.float16(0.2)])])
    for base in (None, [np.ones(5), np.ones(1, np.float16)]):
        result = Krum(1)(ClientUpdates.from_layers(models, base))
        winner = models[result.selected[0]]
        assert [x.tobytes() for x in result.layers] == [x.tobytes() for x in winner]
        assert all(np.shares_memory(a, b) for a, b in zip(result.layers, winner, strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_mean_is_taken_in_float64_and_rounded_once(dtype):
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((9, 20)) * 100).astype(dtype)
    mean = combine(ClientUpdates.from_layers([[row] for row in rows]), np.full(9, 1 / 9)[None])[0]
    for value, column in zip(mean, rows.T, strict=True):
        exact = sum(Fraction(float(x)) for x in column) / 9
        assert abs(Fraction(float(value)) - exact) <= Fraction(
            float(np.spacing(np.abs(value)))
        ) * Fraction(51, 100) + Fraction(1, 2**42)


def test_uneven_weights_are_applied_in_float64_too():
    rng = np.random.default_rng(8)
    rows = (rng.standard_normal((4, 50)) * 100).astype(np.float16)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    mean = combine(ClientUpdates.from_layers([[row] for row in rows]), weights[None])[0]
    for value, column in zip(mean, rows.T, strict=True):
        exact = sum(w * Fraction(float(x)) for w, x in zip((1, 2, 3, 4), column, strict=True)) / 10
        half = Fraction(float(np.spacing(np.abs(value)))) / 2
        assert abs(Fraction(float(value)) - exact) <= half * Fraction(1001, 1000)


def test_the_mean_of_float16_near_its_largest_does_not_overflow():
    models = [[np.full(3, 60000, np.float16)] for _ in range(5)]
    assert Average()(ClientUpdates.from_layers(models)).layers[0].tolist() == [60000.0] * 3


@pytest.mark.filterwarnings("error")
def test_the_mean_of_vectors_near_the_largest_float_does_not_overflow():
    assert Average()(np.full((5, 1), 1.7e308)).vector[0] == pytest.approx(1.7e308)


def test_the_weights_weigh():
    updates = ClientUpdates.from_layers([[np.array([1.0])], [np.array([2.0])], [np.array([9.0])]])
    assert combine(updates, np.array([0.25, 0.75, 0.0])[None])[0] == pytest.approx(1.75, rel=1e-15)
    assert combine(updates, np.array([0.0, 0.0, 1.0])[None])[0].tolist() == [9.0]


def test_a_client_of_no_weight_cannot_touch_the_mean():
    models = [[np.array([1.0])], [np.array([np.nan])], [np.array([3.0])]]
    mean = combine(ClientUpdates.from_layers(models), np.array([0.5, 0.0, 0.5])[None])[0]
    assert mean.tolist() == [2.0]


def test_means_of_layers_longer_than_a_block_are_right_at_the_border():
    rng = np.random.default_rng(5)
    V = rng.integers(-9, 10, (4, 2 * BLOCK + 3)).astype(float)
    np.testing.assert_array_equal(Average()(V).vector, V.sum(axis=0) / 4)


def test_the_vector_of_an_aggregate_is_its_layers_end_to_end():
    models = random_models(5, np.random.default_rng(6), (np.float64,) * 5)
    result = Krum(1)(ClientUpdates.from_layers(models))
    np.testing.assert_array_equal(result.vector, matrix(models)[result.selected[0]])


# --- counters ---


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int8, np.bool_])
def test_counters_take_the_element_wise_lower_median(n, dtype):
    rng = np.random.default_rng(n)
    counters = rng.integers(0, 2 if dtype == np.bool_ else 100, (n, 2, 3)).astype(dtype)
    models = [[np.array([float(i)]), counter] for i, counter in enumerate(counters)]
    expected = [
        sorted(counters[:, i, j].tolist())[(n - 1) // 2] for i in range(2) for j in range(3)
    ]
    for rule in (Krum(0, strict=False), MultiKrum(0, strict=False), Medoid(), Average()):
        layer = rule(ClientUpdates.from_layers(models)).layers[1]
        assert layer.dtype == dtype
        assert layer.shape == (2, 3)
        assert layer.ravel().tolist() == expected


def test_counters_beyond_the_whole_numbers_of_float64_keep_every_digit():
    count = 2**62 + 1
    models = [[np.array([float(i)]), np.array(count + i)] for i in range(5)]
    assert Krum(1)(ClientUpdates.from_layers(models)).layers[1] == count + 2


def test_counters_never_change_the_selection():
    # Six honest clients whose batch counters differ, and a hostile one in the middle of them.
    rng = np.random.default_rng(7)
    honest = [[rng.normal(0, 0.1, 8), np.array(100 + 10 * i)] for i in range(6)]
    hostile = [np.full(8, 0.5), np.array(125)]
    updates = ClientUpdates.from_layers([hostile, *honest])
    plain = ClientUpdates.from_layers([[model[0]] for model in [hostile, *honest]])
    for rule in (Krum(1), MultiKrum(1), Medoid()):
        assert rule(updates).selected == rule(plain).selected
    assert Krum(1)(updates).selected[0] != 0
    assert Krum(1)(updates).layers[1] == sorted([125, 100, 110, 120, 130, 140, 150])[3]


def test_models_of_counters_alone_are_all_alike():
    models = [[np.array(i)] for i in (5, 1, 9, 3, 7)]
    result = Krum(1)(ClientUpdates.from_layers(models))
    assert result.selected == (0,)
    assert result.layers[0] == 5


def test_scalar_counters_stay_arrays():
    models = [[np.array([float(i)]), np.array(100 + i)] for i in range(5)]
    counter = Krum(1)(ClientUpdates.from_layers(models)).layers[1]
    assert isinstance(counter, np.ndarray)
    assert counter.shape == ()


def test_counters_of_mixed_signedness_keep_every_digit():
    count = 2**62 + 1
    kinds = [np.int64, np.uint64, np.int64]
    models = [[np.zeros(1), np.array([count], kind)] for kind in kinds]
    assert Average()(ClientUpdates.from_layers(models)).layers[1].tolist() == [count]


# --- what does not fit ---


def test_models_that_differ_are_named_by_client_and_layer():
    good = [np.zeros(3), np.zeros((2, 2))]
    cases = [
        ([good, good[:1]], "client 1 has 1 layers, expected 2"),
        ([good, [np.zeros(3), np.zeros(4)]], r"layer 1 of client 1 has shape \(4,\), expected"),
        ([good, [np.zeros(3, int), good[1]]], "layer 0 of client 1 has dtype int64, expected"),
        ([], "no client models: expected at least 1"),
    ]
    for models, message in cases:
        with pytest.raises(ValueError, match=message):
            ClientUpdates.from_layers(models)
    with pytest.raises(ValueError, match="client 0 has 2 layers, expected 1"):
        ClientUpdates.from_layers([good], [np.zeros(3)])


@pytest.mark.parametrize("dtype", [complex, "U1", object, np.longdouble])
def test_layers_that_hold_no_plain_numbers_are_refused(dtype):
    with pytest.raises(TypeError, match="layer 1 of client 0 has dtype"):
        ClientUpdates.from_layers([[np.zeros(2), np.zeros(2).astype(dtype)]])
