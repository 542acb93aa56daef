"""The IDX format of the MNIST files: a magic number, the sizes, then the bytes.

torchvision reads it too, but only unpacked, which would mean writing beside files that may be
read-only, and what it says of a damaged file is a bare AssertionError.
"""

import gzip
import struct
from pathlib import Path

import numpy as np

from clients.tasks.files import READ_ERRORS, DataError

_UNSIGNED_BYTE = 0x08


def read_idx(file: Path, shape: tuple[int, ...], way_out: str) -> np.ndarray:
    """Read an IDX file of unsigned bytes, compressed if its name ends in ".gz".

    The header is big-endian: 0, 0, type (8 is unsigned byte), number of axes, then one 32-bit size
    per axis.

    Parameters
    ----------
    file : Path
        The file to read.
    shape : tuple[int, ...]
        The sizes that it must have.
    way_out : str
        What to do about a damaged file, for the error.

    Returns
    -------
    np.ndarray
        Of the given shape, uint8, read-only.

    Raises
    ------
    DataError
        If the file cannot be read, or has another magic number, other sizes or another length.
    """
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except READ_ERRORS as error:
        problem = f"cannot be read ({error})"
        raise DataError.about(file, problem, "an IDX file", way_out) from error

    header = struct.Struct(f">{1 + len(shape)}I")
    if len(raw) < header.size:
        problem = f"{len(raw)} bytes"
        raise DataError.about(file, problem, f"a header of {header.size} bytes", way_out)
    magic, *found = header.unpack_from(raw)
    legal = _UNSIGNED_BYTE << 8 | len(shape)
    if magic != legal:
        raise DataError.about(file, f"magic number {magic}", f"{legal}", way_out)
    if tuple(found) != shape:
        raise DataError.about(file, f"sizes {tuple(found)}", f"{shape}", way_out)
    values = np.frombuffer(raw, np.uint8, offset=header.size)
    if len(values) != np.prod(shape):
        problem, expected = f"{len(values)} bytes of data", f"{np.prod(shape)}"
        raise DataError.about(file, problem, expected, way_out)
    return values.reshape(shape)
