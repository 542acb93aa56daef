import gzip
import re
import struct

import numpy as np
import pytest

from clients import DataError
from clients.tasks.idx import read_idx

PIXELS = bytes(range(12))
GOOD = struct.pack(">4I", 0x803, 3, 2, 2) + PIXELS


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_sizes_then_bytes_are_read_plain_or_packed(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(gzip.compress(GOOD) if file.suffix else GOOD)
    values = read_idx(file, (3, 2, 2), "")
    assert values.dtype == np.uint8
    assert values.tolist() == np.arange(12).reshape(3, 2, 2).tolist()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "0 bytes; expected a header of 16 bytes"),
        (GOOD[:-1], "11 bytes of data; expected 12"),
        (GOOD + b"\0", "13 bytes of data; expected 12"),
        (struct.pack(">4I", 0x801, 3, 2, 2) + PIXELS, "magic number 2049; expected 2051"),
        (struct.pack("<4I", 0x803, 3, 2, 2) + PIXELS, "magic number 50855936; expected 2051"),
        (struct.pack(">4I", 0x803, 2, 3, 2) + PIXELS, "sizes (2, 3, 2); expected (3, 2, 2)"),
    ],
)
def test_a_damaged_file_is_named_with_problem_and_expectation(tmp_path, raw, problem):
    file = tmp_path / "images"
    file.write_bytes(raw)
    with pytest.raises(DataError, match=re.escape(f"{file}: {problem}. Fetch it again.")):
        read_idx(file, (3, 2, 2), "Fetch it again.")


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(GOOD)[:-9],
        gzip.compress(GOOD)[:15] + b"\0\0\0" + gzip.compress(GOOD)[18:],
        b"not gzip at all",
    ],
)
def test_a_damaged_package_is_an_error(tmp_path, packed):
    (tmp_path / "images.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"images.gz: cannot be read \(.*; expected an IDX file"):
        read_idx(tmp_path / "images.gz", (3, 2, 2), "")


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path, (3, 2, 2), "")
