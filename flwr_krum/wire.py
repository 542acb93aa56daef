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
from typing import Any

import numpy as np

from flwr_krum.updates import Array

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1024
_MAX_DIMENSIONS = 32
_MAX_LENGTH = 2**48
_PLAIN_DTYPE = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")


class UndecodableError(ValueError):
    """The bytes are not one plain array of numbers."""


def decode(data: bytes | bytearray | memoryview) -> Array:
    """View npy bytes as the array they hold.

    Raises
    ------
    UndecodableError
        If the bytes are not an npy file of float (16 to 64 bits), integer or bool numbers whose
        header claims exactly the bytes that follow it.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UndecodableError(f"{type(data).__name__}, expected bytes")
    dtype, shape, order, start = _read_header(bytes(data[: 12 + _MAX_HEADER]))
    claimed = math.prod(shape) * dtype.itemsize
    if len(data) - start != claimed:
        raise UndecodableError(
            f"{len(data) - start} bytes of data, its header claims {claimed} "
            f"for {dtype} of shape {shape}"
        )
    try:
        return np.frombuffer(data, dtype, offset=start).reshape(shape, order=order)
    except ValueError as error:
        raise UndecodableError(f"shape {shape} cannot be held: {error}") from error


def encode(array: Array, source: bytes | None = None) -> bytes:
    """Return the npy bytes of an array, the same that ``numpy.save`` writes.

    Parameters
    ----------
    array : array
    source : bytes, optional
        Bytes that the array may be a view of: then these are returned, if they are npy bytes as
        ``numpy.save`` writes them.
    """
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = _header_of(array.dtype, array.shape, fortran)
    if source is not None and _is_written_in(array, source, header):
        return source
    return header + array.tobytes("F" if fortran else "C")


def _is_written_in(array: Array, source: bytes, header: bytes) -> bool:
    if not (type(source) is bytes and len(source) == len(header) + array.nbytes):
        return False
    whole = np.frombuffer(source, np.uint8)
    return source.startswith(header) and array.ctypes.data == whole.ctypes.data + len(header)


@lru_cache(maxsize=1024)
def _header_of(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> bytes:
    file = BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _read_header(prefix: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Any, int]:
    if prefix[:6] != _MAGIC or len(prefix) < 12:
        raise UndecodableError("not an npy array")
    width = {1: 2, 2: 4, 3: 4}.get(prefix[6])
    if width is None:
        raise UndecodableError(f"npy version {prefix[6]}, expected 1, 2 or 3")
    start = 8 + width + int.from_bytes(prefix[8 : 8 + width], "little")
    if start > len(prefix):
        raise UndecodableError(
            f"npy header of {start} bytes; {len(prefix)} are there, {_MAX_HEADER} are allowed"
        )
    return *_parse_header(prefix[8 + width : start]), start


# Every client sends the same few headers, round after round; parsing one costs 50 us.
@lru_cache(maxsize=1024)
def _parse_header(text: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Any]:
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
        shown = repr(descr[:40]) if isinstance(descr, str) else "no text"
        raise UndecodableError(f"dtype {shown}, expected float, integer or bool numbers")
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise UndecodableError(f"shape is no tuple of at most {_MAX_DIMENSIONS} lengths")
    if not all(type(length) is int and 0 <= length <= _MAX_LENGTH for length in shape):
        raise UndecodableError("shape holds something else than whole numbers from 0 to 2^48")
    return np.dtype(descr), shape, "F" if fortran else "C"
