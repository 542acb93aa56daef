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
        (b"", "cannot be read"),
        (GOOD[:-1], "cannot be read (AssertionError"),
        (GOOD + b"\0", "cannot be read (AssertionError"),
        (struct.pack("<4I", 0x803, 3, 2, 2) + PIXELS, "cannot be read (AssertionError"),
        (struct.pack(">2I", 0x801, 12) + PIXELS, "holds uint8 of sizes (12,)"),
        (struct.pack(">4I", 0x903, 3, 2, 2) + PIXELS, "holds int8 of sizes (3, 2, 2)"),
        (struct.pack(">4I", 0x803, 2, 3, 2) + PIXELS, "holds uint8 of sizes (2, 3, 2)"),
    ],
)
def test_a_damaged_file_is_named_with_problem_and_expectation(tmp_path, raw, problem):
    file = tmp_path / "images"
    file.write_bytes(raw)
    expected = "; expected an IDX file of unsigned bytes, sizes (3, 2, 2). Fetch it again."
    with pytest.raises(DataError, match=re.escape(f"{file}: {problem}")) as error:
        read_idx(file, (3, 2, 2), "Fetch it again.")
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(GOOD, mtime=0)[:-9],
        gzip.compress(GOOD, mtime=0)[:15] + b"\0\0\0" + gzip.compress(GOOD, mtime=0)[18:],
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
