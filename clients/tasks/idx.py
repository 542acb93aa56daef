"""The IDX format of the MNIST files, read by torchvision.

torchvision reads unpacked files only, unpacks beside the original, which may be read-only, and what
it says of a damaged file is a bare AssertionError: here a packed file is unpacked into a temporary
folder, and the error says which file it is.
"""

import gzip
import tempfile
from pathlib import Path

import numpy as np

from clients.tasks.files import READ_ERRORS, DataError
from clients.tasks.torchvision_ops import import_torchvision_datasets

# What torchvision raises on a file that is none: its checks are assertions and look-ups.
_DAMAGE = (*READ_ERRORS, AssertionError, LookupError, RuntimeError)


def read_idx(file: Path, shape: tuple[int, ...], way_out: str) -> np.ndarray:
    """Read an IDX file of unsigned bytes, compressed if its name ends in ".gz".

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
        Of the given shape, uint8.

    Raises
    ------
    DataError
        If the file cannot be read, is not an IDX file of unsigned bytes or has other sizes.
    """
    expected = f"an IDX file of unsigned bytes, sizes {shape}"
    reader = import_torchvision_datasets().mnist
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain = file
            if file.suffix == ".gz":
                plain = Path(folder, file.stem)
                plain.write_bytes(gzip.decompress(file.read_bytes()))
            values: np.ndarray = reader.read_sn3_pascalvincent_tensor(str(plain)).numpy()
    except _DAMAGE as error:
        problem = f"cannot be read ({type(error).__name__}: {error})"
        raise DataError.about(file, problem, expected, way_out) from error
    if values.dtype != np.uint8 or values.shape != shape:
        problem = f"holds {values.dtype} of sizes {values.shape}"
        raise DataError.about(file, problem, expected, way_out)
    return values
