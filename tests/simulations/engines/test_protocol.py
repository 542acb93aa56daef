import pytest

from simulations.engines.kept import placed
from simulations.engines.protocol import protocol
from simulations.figures.experiment import load_experiment


@pytest.fixture
def words(tmp_path):
    """The protocol of a figure, with one seed."""

    def words(name, data="embedded", data_dir="data", folds=0):
        cells = load_experiment(name).cells(500, 1, folds)
        return protocol([placed(cell.config, tmp_path, data, data_dir) for cell in cells], data)

    return words


def test_the_protocol_says_that_the_images_are_the_embedded_ones(words):
    assert words("3") == (
        "MNIST, the 5,000 embedded images only (4,000 images to train on, 1,000 to test), "
        "ConvNet, rate 0.1"
    )


def test_the_protocol_has_what_all_runs_share(words):
    assert words("5") == (
        "Spambase, embedded copy (3,677 e-mails to train on, 920 to test), MLP, rate 0.05; "
        "n = 20, f = 6, mini-batch = 3"
    )


def test_every_task_is_named_in_the_order_of_the_panels(words):
    text = words("main-4")
    assert text.index("Spambase") < text.index("MNIST") < text.index("n = 20")
    assert text.endswith("n = 20, mini-batch = 3")


def test_folds_change_the_sizes(words):
    assert "(2,298 e-mails to train on, 2,299 to test)" in words("K2", folds=2)


def test_full_data_are_said_to_be_full(words, real_data):
    assert "Spambase, original (3,680 e-mails to train on, 921 to test)" in words(
        "5", "full", str(real_data)
    )
    if not (real_data / "mnist" / "raw" / "train-images-idx3-ubyte.gz").exists():
        pytest.skip("full MNIST data absent")
    assert "full MNIST (60,000 images to train on, 10,000 to test)" in words(
        "3", "full", str(real_data)
    )
