"""Attacks on examples and labels: what an attacker trains on, and what it sends of that."""

import math

import numpy as np
import pytest

from flwr_krum.attacks import ATTACKS, Backdoor, LabelFlip
from flwr_krum.attacks.label_flip import derangement
from flwr_krum.attacks.written import parse_attack
from tests.flwr_krum.attacks.test_attack import scene

DATA = ("label-flip", "backdoor")


def batch(shape=(10, 1, 6, 5), classes=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32), rng.integers(0, classes, shape[0])


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_does_not_change_data_leaves_it_alone(name):
    attack = parse_attack(name)
    assert attack.changes_data == (name in DATA)
    x, y = batch()
    before = x.copy(), y.copy()
    examples, labels = attack.poisoned(x, y, 10)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert (examples.dtype, labels.dtype) == (x.dtype, y.dtype)
    assert (examples is x and labels is y) == (name not in DATA)


@pytest.mark.parametrize("name", DATA)
def test_what_is_learnt_is_sent(name):
    seen = scene()
    attack = parse_attack(name)
    np.testing.assert_array_equal(attack.on(seen), seen.own)
    assert attack.knowledge == "own"
    assert attack.needs == {"own"}


# --- labels ---


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_labels_are_reversed(dtype):
    y = np.array([0, 1, 2, 9, 4], dtype)
    x = np.zeros((5, 3))
    examples, labels = LabelFlip().poisoned(x, y, 10)
    assert examples is x
    assert labels.tolist() == [9, 8, 7, 0, 5]
    assert labels.dtype == dtype
    assert LabelFlip().poisoned(x, np.array([0, 1, 1, 0, 1]), 2)[1].tolist() == [1, 0, 0, 1, 0]
    assert LabelFlip().poisoned(x[:0], y[:0], 10)[1].shape == (0,)


def test_the_derangement_of_ten_labels_is_velocity_fls():
    _, labels = LabelFlip("derangement").poisoned(np.zeros((10, 1)), np.arange(10), 10)
    assert labels.tolist() == [5, 0, 7, 1, 3, 4, 8, 2, 9, 6]


@pytest.mark.parametrize("classes", range(2, 40))
def test_a_derangement_leaves_no_label_and_is_always_the_same(classes):
    found = derangement(classes)
    assert sorted(found) == list(range(classes))
    assert (found != np.arange(classes)).all()
    np.testing.assert_array_equal(found, derangement(classes))


def test_one_label_becomes_another_and_no_other_does():
    attack = LabelFlip("pair", source=7, target=1)
    labels = attack.poisoned(np.zeros((5, 1)), np.array([1, 7, 0, 7, 9]), 10)[1]
    assert labels.tolist() == [1, 1, 0, 1, 9]


def test_labels_that_a_task_does_not_have_are_an_error():
    x, y = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(ValueError, match="source is 7 and target 1, expected labels < 2"):
        LabelFlip("pair", source=7).poisoned(x, y, 2)
    with pytest.raises(ValueError, match="classes is 1, expected at least two"):
        LabelFlip("derangement").poisoned(x, y, 1)
    with pytest.raises(ValueError, match="target is 2, expected a label < 2"):
        Backdoor(target=2).poisoned(x, y, 2)


# --- triggers ---


def corner_of(x, size, corner):
    """Return where an image's corner is, by a loop over its pixels."""
    H, W = x.shape[-2:]
    inside = np.zeros((H, W), bool)
    for i in range(H):
        for j in range(W):
            down = H - 1 - i if "bottom" in corner else i
            across = W - 1 - j if "right" in corner else j
            inside[i, j] = down < size and across < size
    return inside


@pytest.mark.parametrize("corner", ["bottom-right", "bottom-left", "top-right", "top-left"])
@pytest.mark.parametrize("shape", [(10, 3, 6, 5), (10, 1, 5, 5), (4, 6, 7)])
def test_a_share_of_the_images_bears_a_bright_square_and_the_target_label(corner, shape):
    x, y = batch(shape)
    examples, labels = Backdoor(size=2, share=0.3, target=4, corner=corner).poisoned(x, y, 10)
    changed = math.ceil(0.3 * len(x))
    inside = corner_of(x, 2, corner)
    assert (examples[:changed][..., inside] == x.max()).all()
    np.testing.assert_array_equal(examples[:changed][..., ~inside], x[:changed][..., ~inside])
    np.testing.assert_array_equal(examples[changed:], x[changed:])
    assert labels.tolist() == [4] * changed + y[changed:].tolist()


def test_vectors_of_features_bear_the_trigger_in_their_last():
    x, y = batch((8, 57), 2)
    examples, labels = Backdoor(size=5, target=1, value=2.5, corner="top-left").poisoned(x, y, 2)
    assert (examples[:4, -5:] == 2.5).all()
    np.testing.assert_array_equal(examples[:, :-5], x[:, :-5])
    np.testing.assert_array_equal(examples[4:], x[4:])
    assert labels[:4].tolist() == [1] * 4


def test_the_share_of_a_batch_is_rounded_up():
    for n in (0, 1, 7, 30, 100, 128):
        x, y = np.zeros((n, 4)), np.ones(n, int)
        for percent in range(101):
            _, labels = Backdoor(share=percent / 100).poisoned(x, y, 2)
            assert np.count_nonzero(labels == 0) == -(-n * percent // 100)


def test_every_triggered_example_bears_the_trigger():
    x, _ = batch()
    for attack in (Backdoor(), Backdoor(value=-7)):
        marked = attack.triggered(x)
        value = x.max() if attack.value is None else attack.value
        assert (marked[..., -3:, -3:] == value).all()
        np.testing.assert_array_equal(marked[..., :-3, :], x[..., :-3, :])
    assert Backdoor().triggered(x[:0]).shape == (0, 1, 6, 5)


@pytest.mark.parametrize("shape", [(4, 1, 5, 2), (4, 2, 5), (4, 2), (4,)])
def test_a_trigger_that_does_not_fit_is_an_error(shape):
    with pytest.raises(ValueError, match="size is 3, expected a trigger that fits into examples"):
        Backdoor().triggered(np.zeros(shape))


def test_success_is_the_share_of_other_classes_that_are_taken_for_the_target():
    predicted = np.array([0, 0, 1, 2, 0])
    y = np.array([0, 1, 1, 2, 3])
    assert Backdoor().success(predicted, y) == 0.5
    assert Backdoor(target=2).success(predicted, y) == 0
    assert math.isnan(Backdoor().success(predicted, np.zeros(5, int)))


def test_a_backdoor_may_be_boosted():
    seen = scene()
    np.testing.assert_array_equal(Backdoor(boost=10).on(seen), 10 * seen.own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label-flip(way=up)", "way is 'up', expected 'reversed' or 'derangement' or 'pair'"),
        ("label-flip(source=-1)", "source is -1, expected an integer >= 0"),
        ("label-flip(source=1)", "target is 1, expected another label than the source"),
        ("backdoor(size=0)", "size is 0, expected an integer >= 1"),
        ("backdoor(share=1.5)", "share is 1.5, expected a finite number >= 0 and <= 1"),
        ("backdoor(target=-1)", "target is -1, expected an integer >= 0"),
        ("backdoor(value=bright)", "value is 'bright', expected a finite number"),
        ("backdoor(boost=-1)", "boost is -1, expected a finite number >= 0"),
        ("backdoor(corner=middle)", "corner is 'middle', expected 'bottom-right' or"),
    ],
)
def test_an_illegal_parameter_is_named_with_the_legal_ones(text, message):
    with pytest.raises(ValueError, match=message):
        parse_attack(text)
