from __future__ import annotations

import flwr.app
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from flwr_krum.boundary.npy import UndecodableError
from flwr_krum.boundary.records import from_record, to_record

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", ">f4", ">i8"]
MODELS = {
    "matrix and bias": {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)},
    "scalars": {"steps": np.array(3), "rate": np.array(0.5, np.float32)},
    "empty layer": {"e": np.zeros((0, 3)), "n": np.zeros(0, np.int8)},
    "fortran order": {"w": np.asfortranarray(np.arange(12.0).reshape(3, 4))},
    "a view": {"w": np.arange(24.0).reshape(4, 6)[::2, 1::2]},
    "transposed in three dimensions": {"w": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)},
    "big-endian": {"w": np.arange(3.0).astype(">f4")},
    "no arrays": {},
}


def by_flower(model):
    return flwr.app.ArrayRecord({key: flwr.app.Array(array) for key, array in model.items()})


def assert_the_same(ours, flowers):
    assert ours.object_id == flowers.object_id
    assert list(ours) == list(flowers)
    for key in flowers:
        a, b = ours[key], flowers[key]
        assert (a.dtype, a.shape, a.stype, a.data) == (b.dtype, b.shape, b.stype, b.data)
        assert a.object_id == b.object_id


@pytest.mark.parametrize("name", MODELS)
def test_a_record_is_flowers_own_to_the_byte(name):
    assert_the_same(to_record(MODELS[name]), by_flower(MODELS[name]))


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=4))
    ),
    st.booleans(),
)
def test_every_array_is_written_as_flower_writes_it(array, fortran):
    if fortran and array.ndim:
        array = np.asfortranarray(array)
    assert_the_same(to_record({"w": array}), by_flower({"w": array}))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read_back(name):
    for record in (to_record(MODELS[name]), by_flower(MODELS[name])):
        found = from_record(record)
        assert list(found) == list(MODELS[name])
        for key, array in MODELS[name].items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype
            assert found[key].shape == array.shape


def test_the_arrays_are_read_only_views_on_the_record():
    record = to_record({"w": np.arange(100.0)})
    array = from_record(record)["w"]
    assert np.shares_memory(array, np.frombuffer(record["w"].data, np.uint8))
    assert not array.flags.writeable


def test_the_order_of_the_keys_is_kept():
    model = {key: np.zeros(1) for key in ("z", "a", "m")}
    assert list(to_record(model)) == list(from_record(to_record(model))) == ["z", "a", "m"]


def test_a_record_that_holds_no_numbers_is_undecodable():
    record = flwr.app.ArrayRecord({"w": flwr.app.Array("", (), "numpy.ndarray", b"garbage")})
    with pytest.raises(UndecodableError, match="not an npy array"):
        from_record(record)
