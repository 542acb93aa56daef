import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from flwr_krum.serverapp.records import from_record, to_record
from flwr_krum.wire import decode, encode

KINDS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4"]


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (4, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_encoded_bytes_are_those_of_numpy(kind, shape, order):
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype=kind, order=order)
    assert encode(array) == saved(array)
    np.testing.assert_array_equal(decode(encode(array)), array)


def test_a_view_with_gaps_is_encoded_by_its_values():
    array = np.arange(24.0).reshape(4, 6)[::2, ::3]
    assert encode(array) == saved(array)


def test_a_record_is_the_one_that_flower_makes():
    model = {"w": np.ones((2, 3), np.float32), "n": np.array(7), "b": np.zeros(4, np.float16)}
    ours, theirs = to_record(model), ArrayRecord({key: Array(a) for key, a in model.items()})
    assert ours.object_id == theirs.object_id
    assert list(ours) == list(theirs)


def test_a_record_is_viewed_by_key_and_cannot_be_written():
    model = {"w": np.arange(6.0).reshape(2, 3), "n": np.array(7)}
    viewed = from_record(to_record(model))
    assert list(viewed) == ["w", "n"]
    np.testing.assert_array_equal(viewed["w"], model["w"])
    with pytest.raises(ValueError, match="read-only"):
        viewed["w"][0, 0] = 1.0
