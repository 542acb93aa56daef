from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from flwr_krum.boundary.bfloat16 import BFLOAT16, narrowed, widened
from flwr_krum.boundary.npy import UndecodableError, decode, encode
from flwr_krum.boundary.records import to_record
from tests.flwr_krum.npy_bytes import forge, forged_header, npy


def bfloat16(values):
    """Return numbers in bfloat16, by torch."""
    numbers = torch.tensor(np.asarray(values, np.float32)).bfloat16()
    return numbers.view(torch.int16).numpy().view(BFLOAT16)


def numbers(array):
    """Return what bfloat16 numbers are, by torch."""
    bits = torch.tensor(np.ascontiguousarray(array).view(np.int16))
    return bits.view(torch.bfloat16).float().numpy()


def saved_by_ml_dtypes(array):
    """Return the npy file of such an array: its dtype calls itself <V2, NumPy loads |V2."""
    text = forged_header("'<V2'", str(array.shape)).rstrip("\n")
    return forge(text.ljust(117) + "\n", array.tobytes())


def test_all_numbers_are_read_as_torch_reads_them():
    every = np.arange(2**16, dtype=np.uint16).view(BFLOAT16)
    np.testing.assert_array_equal(widened(every), numbers(every))


def test_all_numbers_come_back_to_the_bit():
    every = np.arange(2**16, dtype=np.uint16).view(BFLOAT16)
    finite = every[np.isfinite(widened(every))]
    assert narrowed(widened(finite)).tobytes() == finite.tobytes()


def test_float32_is_rounded_to_the_nearest_as_torch_does():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 10**5, np.uint32)
    ties = rng.integers(0, 2**16, 10**4, np.uint32) << 16 | 0x8000
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.abs(values) < 3.38e38]  # neither NaN nor what rounds to infinity
    assert narrowed(values).tobytes() == bfloat16(values).tobytes()


def test_a_finite_number_stays_finite():
    top = np.finfo(np.float32).max
    found = widened(narrowed(np.array([top, -top], np.float32)))
    assert found.tolist() == [(2 - 2**-7) * 2.0**127, -(2 - 2**-7) * 2.0**127]


def test_any_shape_and_order_is_kept_and_other_dtypes_pass():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    for array in (values, values.T, values[::2], values[0, 1, np.newaxis].reshape(())):
        found = narrowed(array)
        assert (found.shape, found.dtype) == (array.shape, BFLOAT16)
        np.testing.assert_array_equal(widened(found), array)
    assert widened(values) is values


def test_the_bytes_are_those_of_ml_dtypes():
    array = bfloat16([[1.0, -2.5, 3.0]])
    data = saved_by_ml_dtypes(array)
    assert data[:8] == b"\x93NUMPY\x01\x00"
    assert len(data) == 128 + 6
    assert np.load(io.BytesIO(data)).dtype == BFLOAT16
    np.testing.assert_array_equal(widened(decode(data)), [[1.0, -2.5, 3.0]])
    assert encode(array) == data
    assert decode(npy(array)).tobytes() == array.tobytes()


@pytest.mark.parametrize("descr", ["'>V2'", "'V2'", "'=V2'", "'<V1'", "'|V4'", "'<V22'", "'<f1'"])
def test_other_bits_without_a_meaning_are_refused(descr):
    with pytest.raises(UndecodableError, match="expected float, integer or bool"):
        decode(forge(forged_header(descr, "(0,)")))


def test_a_record_names_the_dtype_as_flower_does_for_ml_dtypes():
    record = to_record({"w": bfloat16([1.0, 2.0])})
    assert record["w"].dtype == "bfloat16"
    assert record["w"].numpy().tobytes() == bfloat16([1.0, 2.0]).tobytes()


def test_flower_itself_cannot_carry_torchs_bfloat16():
    # The reason why the documentation asks for another dtype: this fails before a strategy sees it.
    with pytest.raises(TypeError, match="BFloat16"):
        ArrayRecord({"w": torch.zeros(3, dtype=torch.bfloat16)})


# --- through a strategy ---

MODEL = {"w": bfloat16(np.zeros(4)), "b": np.zeros(2, np.float32)}


def content_of(federation, client):
    return federation.content(
        {"w": bfloat16(np.full(4, client)), "b": np.full(2, client, np.float32)}, 10, {}
    )


def play(federation, rule, contents):
    strategy = federation.strategy(rule, 1)
    model = {key: npy(array) for key, array in MODEL.items()}
    federation.configure(strategy, model, range(1, 8))
    new, _ = federation.deliver(strategy, contents)
    return list(new.values()), strategy.last_report


def test_models_in_bfloat16_are_measured_and_averaged(federation):
    contents = [(c, content_of(federation, c)) for c in range(1, 8)]
    (w, b), report = play(federation, "Krum", contents)
    assert len(report.received) == 7
    # Six coordinates at whole distances of each other.
    assert report.scores[federation.name(4)] == 6 * (1 + 1 + 4 + 4)
    chosen = int(report.selected[0])
    assert w.dtype == BFLOAT16
    assert numbers(w).tolist() == [chosen] * 4
    (w, b), report = play(federation, "MultiKrum", contents)
    mean = np.mean([int(client) for client in report.selected])
    assert numbers(w).tolist() == numbers(bfloat16([mean] * 4)).tolist()
    assert b.tolist() == [mean] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_other_widths_are_taken_in_beside_it_and_bad_values_refused(federation, dtype):
    contents = [(c, content_of(federation, c)) for c in range(1, 7)]
    wide = {"w": np.full(4, 7, dtype), "b": np.full(2, 7, np.float32)}
    (w, _), report = play(federation, "Krum", [*contents, (7, federation.content(wide, 10, {}))])
    assert federation.name(7) in report.received
    assert w.dtype == BFLOAT16
    bad = {**wide, "w": bfloat16([1.0, np.nan, 1.0, 1.0])}
    _, report = play(federation, "Krum", [*contents, (7, federation.content(bad, 10, {}))])
    assert [refusal.reason.split(": ")[1] for refusal in report.refused] == ["holds NaN"]


def test_bfloat16_is_taken_in_for_a_float32_model(federation):
    strategy = federation.strategy("Krum", 1)
    model = {"w": np.zeros(4, np.float32)}
    federation.configure(strategy, model, range(1, 8))
    contents = [
        (c, federation.content({"w": bfloat16(np.full(4, c))}, 10, {})) for c in range(1, 8)
    ]
    (w,), _ = (list(part.values()) for part in federation.deliver(strategy, contents))
    assert w.dtype == np.float32


def test_an_array_as_ml_dtypes_would_make_it_is_carried_by_flower():
    array = bfloat16([1.0, 2.0])
    sent = Array("bfloat16", (2,), "numpy.ndarray", saved_by_ml_dtypes(array))
    assert sent.numpy().dtype == BFLOAT16
