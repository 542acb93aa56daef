"""Arrays to and from the bytes that Flower carries, without trust and with one copy less.

Each array travels as an npy file. ``numpy.load`` believes its header: it would allocate what a
forged one claims. Here the claim is held against the bytes that are there, and the array is a
read-only view on them. Headers are few and repeat, so they are parsed and written once.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np

from flwr_krum.boundary.bfloat16 import BFLOAT16
from flwr_krum.boundary.filed import Filed, Sent
from flwr_krum.boundary.replies import quoted
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.stored import StoredArray

SERIALIZATION = "numpy.ndarray"
"""Flower's name for npy bytes, the only serialization that is taken in."""

_MAGIC = b"\x93NUMPY"
_USUAL, _USUAL_LENGTH = b"\x93NUMPY\x01\x00v\x00", 128
"""How most files begin, and the length of the header that this announces."""
_BYTES = (bytes, bytearray, memoryview, Filed)
MAX_HEADER = 1024
"""Bytes, the magic string and the lengths among them; numpy writes 128 for most arrays."""
_MAX_DIMENSIONS = 32
_MAX_LENGTH = 2**48
_PLAIN_DTYPE = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)|[<|]V2")


Buffer: TypeAlias = bytes | bytearray | memoryview


class UndecodableError(ValueError):
    """The bytes are not one plain array of numbers."""


class Layout(NamedTuple):
    """What a header claims: the array, where it begins, and how long the file is."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int
    length: int


class Form(NamedTuple):
    """How ``numpy.save`` writes a C-ordered array of a shape and dtype."""

    header: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    length: int


@lru_cache(maxsize=1024)
def form_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Form:
    """Return how an array of a shape and dtype is usually written."""
    header = _header_of(dtype, shape, False)
    return Form(header, shape, dtype, len(header) + math.prod(shape) * dtype.itemsize)


@overload
def decode(data: Buffer, expected: Form | None = None) -> Array: ...
@overload
def decode(data: Filed, expected: Form | None = None) -> StoredArray: ...
def decode(data: Buffer | Filed, expected: Form | None = None) -> Array | StoredArray:
    """View npy bytes as the array they hold.

    Parameters
    ----------
    data : bytes or Filed
    expected : Form, optional
        What they most likely are: then one look at the header is enough.

    Raises
    ------
    UndecodableError
        If the bytes are not an npy file of float (16 to 64 bits, bfloat16), integer or bool
        numbers whose header claims exactly the bytes that follow it.
    """
    if (
        expected is not None
        and type(data) is bytes
        and len(data) == expected.length
        and data.startswith(expected.header)
    ):
        return np.ndarray(expected.shape, expected.dtype, data, len(expected.header))
    if not isinstance(data, _BYTES):
        raise UndecodableError(f"{type(data).__name__}, expected bytes")
    if isinstance(data, memoryview):
        data = _as_bytes(data)
    dtype, shape, order, start, length = _layout(bytes(data[: _header_length(data)]))
    if len(data) != length:
        raise UndecodableError(
            f"{len(data) - start} bytes of data, its header claims "
            f"{length - start} for {dtype} of shape {shape}"
        )
    if isinstance(data, Filed):
        if data.array is None:
            raise UndecodableError("the bytes were let go when they arrived")
        return data.array
    try:
        return np.ndarray(shape, dtype, data, start, None, order)
    except ValueError as error:
        raise UndecodableError(f"shape {shape} cannot be held: {error}") from error


def is_npy(data: Buffer | Filed) -> bool:
    """Say whether bytes begin as an npy file does."""
    return bytes(data[: len(_MAGIC)]) == _MAGIC


def encode(array: Array, source: Sent | None = None) -> bytes:
    """Return the npy bytes of an array, the same that ``numpy.save`` writes.

    Parameters
    ----------
    array : array
    source : bytes, optional
        Bytes that the array may be a view of: then these are returned, if they are npy bytes as
        ``numpy.save`` writes them.
    """
    fortran = not array.flags.c_contiguous and array.flags.f_contiguous
    header = _header_of(array.dtype, array.shape, fortran)
    if type(source) is bytes and _is_written_in(array, source, header):
        return source
    flat = np.ascontiguousarray(array.reshape(-1, order="F" if fortran else "C"))
    return b"".join((header, flat.view(np.uint8).data))


def _is_written_in(array: Array, source: bytes, header: bytes) -> bool:
    if len(source) != len(header) + array.nbytes:
        return False
    whole = np.frombuffer(source, np.uint8)
    return source.startswith(header) and array.ctypes.data == whole.ctypes.data + len(header)


@lru_cache(maxsize=1024)
def _header_of(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> bytes:
    file = BytesIO()
    # The arrays of ml_dtypes are saved as "<V2", although NumPy loads that as "|V2".
    descr = "<V2" if dtype == BFLOAT16 else np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _as_bytes(view: memoryview) -> memoryview:
    try:
        return view.cast("B")
    except (TypeError, ValueError) as error:  # of several pieces, or released
        raise UndecodableError(f"memoryview that holds no bytes: {error}") from error


def _header_length(data: Buffer | Filed) -> int:
    if len(data) >= _USUAL_LENGTH and data[: len(_USUAL)] == _USUAL:
        return _USUAL_LENGTH
    if len(data) < 12 or data[:6] != _MAGIC:
        raise UndecodableError("not an npy array")
    version = data[6]
    if version == 1:
        length = 10 + data[8] + (data[9] << 8)
    elif version in (2, 3):
        length = 12 + int.from_bytes(data[8:12], "little")
    else:
        raise UndecodableError(f"npy version {version}, expected 1, 2 or 3")
    if length > min(len(data), MAX_HEADER):
        raise UndecodableError(
            f"npy header of {length} bytes; {len(data)} are there, {MAX_HEADER} are allowed"
        )
    return length


# Every client sends the same few headers, round after round; parsing one costs 50 us.
@lru_cache(maxsize=1024)
def _layout(header: bytes) -> Layout:
    dtype, shape, order = _parse_header(header[10 if header[6] == 1 else 12 :])
    size = math.prod(shape) * dtype.itemsize
    return Layout(dtype, shape, order, len(header), len(header) + size)


def _parse_header(text: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    # A header is one flat dictionary; whatever else parses would cost time to look at.
    if text.count(b"{") != 1 or b"[" in text or b"\\" in text:
        raise UndecodableError(
            "npy header, expected float, integer or bool numbers and no other entries"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            header = ast.literal_eval(text.decode("latin1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except Exception as error:
        # A hostile literal fails in many ways: syntax, recursion, memory, missing keys.
        raise UndecodableError(f"unreadable npy header ({type(error).__name__})") from error
    if len(header) != 3:
        raise UndecodableError(f"npy header with {len(header)} entries, expected 3")
    # What is printed is bounded: a number of 4,000 digits cannot even be turned into text.
    if not (isinstance(descr, str) and _PLAIN_DTYPE.fullmatch(descr)):
        shown = quoted(descr, 40) if isinstance(descr, str) else "no text"
        raise UndecodableError(f"dtype {shown}, expected float, integer or bool numbers")
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise UndecodableError(f"shape is no tuple of at most {_MAX_DIMENSIONS} lengths")
    if not all(type(length) is int and 0 <= length <= _MAX_LENGTH for length in shape):
        raise UndecodableError("shape holds something else than whole numbers from 0 to 2^48")
    return np.dtype(descr), shape, "F" if fortran else "C"
