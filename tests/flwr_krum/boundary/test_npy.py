from __future__ import annotations

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from flwr_krum.boundary.filed import Filed
from flwr_krum.boundary.npy import UndecodableError, decode, encode, form_of
from tests.flwr_krum.npy_bytes import forge, forged_header, npy

PLAIN = [
    "f2",
    "f4",
    "f8",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "b1",
    ">f2",
    ">f4",
    ">f8",
    ">i2",
    ">i4",
    ">i8",
    ">u2",
    ">u4",
    ">u8",
]
SHAPES = [(), (0,), (1,), (7,), (2, 3), (3, 0, 2), (2, 1, 2, 2)]


def the_same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_plain_array_comes_back_bit_for_bit(dtype, version):
    for shape in SHAPES:
        size = int(np.prod(shape))
        array = np.arange(size).astype(dtype).reshape(shape)
        assert the_same(decode(npy(array, version)), array)


def test_special_values_come_back_bit_for_bit():
    array = np.array([np.nan, -np.inf, -0.0, 5e-324, np.finfo(float).max])
    assert the_same(decode(npy(array)), array)


def test_fortran_order_is_kept():
    array = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    decoded = decode(npy(array))
    np.testing.assert_array_equal(decoded, array)
    assert decoded.flags.f_contiguous
    assert not decoded.flags.c_contiguous


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(PLAIN).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=5))
    ),
    st.booleans(),
)
def test_it_reads_what_numpy_reads(array, fortran):
    data = npy(np.asfortranarray(array) if fortran and array.ndim else array)
    decoded, expected = decode(data), np.load(io.BytesIO(data))
    assert the_same(decoded, expected)


def test_the_array_is_a_read_only_view_on_the_bytes():
    data = npy(np.arange(1000.0))
    decoded = decode(data)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))
    assert not decoded.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        decoded[0] = 1.0


def test_decoding_a_large_array_allocates_next_to_nothing():
    data = npy(np.zeros(2_000_000))
    tracemalloc.start()
    decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


HEADERS = {
    "terabytes": {"shape": "(10000000000000,)"},
    "terabytes in many dimensions": {"shape": "(100000, 100000, 1000)"},
    "more than memory can address": {"shape": "(9223372036854775807, 9223372036854775807)"},
    "nothing times too much": {"shape": "(0, 9223372036854775808)"},
    "nothing of more than can be addressed": {"shape": f"(0, {2**40}, {2**40})"},
    "nothing of a terabyte": {"shape": f"(0, {10**30})"},
    "a thousand digits": {"shape": f"({'9' * 1000},)"},
    "negative": {"shape": "(-3,)"},
    "twice negative": {"shape": "(-3, -1)"},
    "minus one": {"shape": "(-1,)"},
    "bool dimensions": {"shape": "(True, 3)"},
    "float dimensions": {"shape": "(3.0,)"},
    "a list": {"shape": "[3]"},
    "a number": {"shape": "3"},
    "no shape": {"shape": "None"},
    "33 dimensions": {"shape": "(" + "1," * 33 + ")"},
    "a sum": {"shape": "(1+2,)"},
    "a call": {"shape": "(__import__('os').getpid(),)"},
    "objects": {"descr": "'|O'"},
    "objects of a type": {"descr": "'O8'"},
    "complex": {"descr": "'<c8'", "shape": "(1,)"},
    "strings": {"descr": "'<U1'"},
    "byte strings": {"descr": "'|S4'"},
    "dates": {"descr": "'<M8[s]'"},
    "void": {"descr": "'|V4'"},
    "records": {"descr": "[('a', '<f4')]"},
    "long double": {"descr": "'<f16'"},
    "a dtype that is none": {"descr": "'<f3'"},
    "a dtype with a line end": {"descr": "'<f4\\n'"},
    "a dtype of bytes": {"descr": "b'<f4'"},
    "a dtype that is a number": {"descr": "4"},
}


@pytest.mark.parametrize("forged", HEADERS)
@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("body", [b"", bytes(12)])
def test_a_forged_header_is_refused_without_allocating(forged, version, body):
    data = forge(forged_header(**HEADERS[forged]), body, version)
    tracemalloc.start()
    with pytest.raises(UndecodableError):
        decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


LITERALS = {
    "parentheses": "(" * 4000,
    "signs": "-" * 4000 + "1",
    "nested dicts": "{1:" * 1300,
    "a long sum": "1+" * 2000 + "1",
    "a call": "__import__('os').getpid()",
    "an empty dict": "{}",
    "a list": "[1, 2]",
    "nothing": "",
    "a null byte": "\x00",
    "no shape": "{'descr': '<f4', 'fortran_order': False}",
}


@pytest.mark.parametrize(
    "header",
    [
        {"shape": "(0x" + "f" * 4000 + ",)"},
        {"shape": "(-0x" + "f" * 4000 + ",)"},
        {"descr": "0x" + "f" * 4000},
    ],
)
def test_a_header_with_a_number_too_long_to_print_is_undecodable(header):
    with pytest.raises(UndecodableError):
        decode(forge(forged_header(**header)))


def test_a_header_with_a_fourth_entry_is_refused():
    data = forge(forged_header(shape="(3,), 'x': 1"), bytes(12))
    with pytest.raises(UndecodableError, match="npy header with 4 entries, expected 3"):
        decode(data)


@pytest.mark.parametrize("literal", LITERALS)
def test_a_header_that_is_no_header_is_refused(literal):
    tracemalloc.start()
    with pytest.raises(UndecodableError):
        decode(forge(LITERALS[literal], bytes(12)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # Python's own syntax tree of at most 4 KiB of header


@pytest.mark.parametrize(
    "dtype", ["<c8", "<c16", "<U3", "|S4", "<M8[s]", "<m8[ns]", "|V4", "<f4,<i4", np.longdouble]
)
def test_well_formed_arrays_of_other_kinds_are_refused_by_their_dtype(dtype):
    with pytest.raises(UndecodableError, match="expected float, integer or bool numbers"):
        decode(npy(np.zeros(3, dtype)))


def test_pickles_are_never_opened():
    opened = []
    bomb = np.array([{"a": 1}], dtype=object)
    file = io.BytesIO()
    np.save(file, bomb, allow_pickle=True)
    for data in (file.getvalue(), pickle.dumps(opened), b"\x93NUMPY\x01\x00" + pickle.dumps([1])):
        with pytest.raises(UndecodableError):
            decode(data)
    zipped = io.BytesIO()
    np.savez(zipped, np.zeros(3))
    with pytest.raises(UndecodableError, match="not an npy array"):
        decode(zipped.getvalue())


def test_a_header_that_claims_more_or_less_than_is_there_is_refused():
    data = npy(np.zeros(3, np.float32))
    for wrong in (data[:-1], data + b"\0", data[:-12], data * 2):
        with pytest.raises(UndecodableError, match="its header claims 12 for float32"):
            decode(wrong)


def test_a_file_that_is_cut_off_anywhere_is_refused():
    data = npy(np.arange(3, dtype=np.float32))
    for length in range(len(data)):
        with pytest.raises(UndecodableError):
            decode(data[:length])


def test_a_header_longer_than_the_file_or_the_limit_is_refused():
    header = forged_header().rstrip("\n")
    with pytest.raises(UndecodableError, match="are allowed"):
        decode(b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(200))
    with pytest.raises(UndecodableError, match="1024 are allowed"):
        decode(forge(header + " " * 5000 + "\n", bytes(12)))
    assert decode(forge(header + " " * 900 + "\n", bytes(12))).shape == (3,)


@pytest.mark.parametrize("version", [0, 4, 255])
def test_unknown_versions_are_named(version):
    with pytest.raises(UndecodableError, match=f"npy version {version}, expected 1, 2 or 3"):
        decode(forge(forged_header(), bytes(12), version))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(data):
    for hostile in (data, b"\x93NUMPY\x01\x00" + data, b"\x93NUMPY\x01\x00\x40\x00" + data):
        with pytest.raises(UndecodableError):
            decode(hostile)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_file_with_some_bytes_changed_is_an_array_or_refused(data):
    array = np.arange(6, dtype=np.float32)
    hostile = bytearray(npy(array))
    for _ in range(data.draw(st.integers(1, 4))):
        hostile[data.draw(st.integers(0, 90))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(hostile))
    except UndecodableError:
        return
    assert decoded.nbytes == array.nbytes
    assert decoded.dtype.kind in "fiub"


@pytest.fixture(scope="module")
def files():
    """Files of every form with what is decoded of each, and files that are cut or too long."""
    sound, broken = [], []
    for shape in SHAPES:
        for dtype in PLAIN:
            array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
            data = npy(array)
            sound += [data, npy(np.asfortranarray(array)), bytearray(data)]
            broken += [data[:-1], data + b"\0"]
    plain = [(data, decode(data)) for data in sound]
    return [(data, p.dtype, p.strides, p.tobytes()) for data, p in plain], broken


@pytest.mark.parametrize("expected_dtype", PLAIN)
def test_what_is_expected_changes_nothing_of_what_is_decoded(files, expected_dtype):
    for expected_shape in SHAPES:
        expected = form_of(expected_shape, np.dtype(expected_dtype))
        for data, *plain in files[0]:
            found = decode(data, expected)
            assert [found.dtype, found.strides, found.tobytes()] == plain, expected
            assert not found.flags.owndata, expected
        for data in files[1]:
            with pytest.raises(UndecodableError):
                decode(data, expected)


def test_the_error_is_a_value_error():
    assert issubclass(UndecodableError, ValueError)


# --- encoding ---


def saved(array):
    """Return the bytes that numpy.save writes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("dtype", PLAIN)
def test_encoding_writes_the_bytes_of_numpy_save(dtype):
    for shape in SHAPES:
        array = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
        assert encode(array) == saved(array)
        assert encode(np.asfortranarray(array)) == saved(np.asfortranarray(array))
        assert the_same(decode(encode(array)), array)


LAYOUTS = {
    "fortran": lambda a: np.asfortranarray(a),
    "reversed": lambda a: a[::-1],
    "every other column": lambda a: a[:, ::2],
    "one column": lambda a: a[:, :1],
    "one row of a fortran array": lambda a: np.asfortranarray(a)[:1],
    "axes moved": lambda a: np.moveaxis(a, 0, 1),
    "repeated without a copy": lambda a: np.broadcast_to(a[0], a.shape),
    "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_in_memory_is_encoded_as_numpy_saves_it(layout):
    for shape in [(4, 6), (4, 6, 2), (1, 5), (5, 1), (0, 3)]:
        if layout == "repeated without a copy" and shape[0] == 0:
            continue
        array = LAYOUTS[layout](np.arange(float(np.prod(shape))).reshape(shape))
        assert encode(array) == saved(array)
        np.testing.assert_array_equal(decode(encode(array)), array)


def test_headers_that_look_alike_are_not_confused():
    # Headers are kept by dtype, shape and order: equal keys must mean equal bytes.
    alike = [
        np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), np.zeros((2, 3), ">f4"),
        np.zeros((2, 3), np.int32), np.asfortranarray(np.zeros((2, 3), np.float32)),
        np.zeros((1, 2, 3), np.float32), np.zeros(6, np.float32), np.zeros((), np.float32),
        np.zeros(1, np.float32), np.zeros(1, np.int8), np.zeros(1, bool), np.zeros(1, np.uint8),
    ]  # fmt: skip
    for array in alike * 2:
        assert encode(array) == saved(array)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(PLAIN).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=5))
    ),
    st.randoms(use_true_random=False),
)
def test_any_array_and_any_order_of_its_axes_is_encoded_as_numpy_saves_it(array, order):
    axes = list(range(array.ndim))
    order.shuffle(axes)
    array = array.transpose(axes)
    assert encode(array) == saved(array)


def test_an_array_that_views_its_own_file_is_encoded_as_that_file_and_no_other():
    array = np.arange(6.0).reshape(2, 3)
    source = encode(array)
    assert encode(decode(source), source) is source
    for other in (encode(array), encode(array[:1]), encode(array.T), b""):
        again = encode(decode(source), other)
        assert again is not other
        assert again == source


@pytest.mark.parametrize("kind", ["no dimension", "every second byte", "released"])
def test_a_view_that_is_no_row_of_bytes_is_refused(kind):
    whole = encode(np.ones(3, np.float32))
    if kind == "no dimension":
        view = memoryview(np.zeros((), np.uint8))
    elif kind == "every second byte":
        view = memoryview(bytes(byte for pair in zip(whole, whole, strict=True) for byte in pair))
        view = view[::2]
    else:
        view = memoryview(whole)
        view.release()
    with pytest.raises(UndecodableError):
        decode(view)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_whatever_holds_the_bytes_the_array_is_the_same(kind):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert the_same(decode(kind(encode(array))), array)
    wide = memoryview(np.frombuffer(encode(array), np.uint64))  # 152 bytes in words of eight
    assert the_same(decode(wide), array)


def test_an_array_whose_numbers_were_let_go_is_refused_though_its_header_and_length_are_right():
    whole = npy(np.zeros(2000))
    for form in (None, form_of((2000,), np.dtype(np.float64))):
        with pytest.raises(UndecodableError, match="the bytes were let go when they arrived"):
            decode(Filed(whole[:1024], len(whole)), form)
