from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.boundary.bfloat16 import BFLOAT16, narrowed
from flwr_krum.boundary.intake import admit
from flwr_krum.boundary.low_rank import LowRank
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.template import Template
from flwr_krum.rules import Average
from tests.flwr_krum.npy_bytes import npy

MODEL = {
    "w": np.zeros((3, 2), np.float32),
    "half": np.zeros(4, np.float16),
    "brain": narrowed(np.zeros(3, np.float32)),
    "mask": np.array([0.0, -np.inf, np.nan, 0.0]),
    "steps": np.array(5),
    "flags": np.zeros(3, bool),
    "empty": np.zeros((0, 2), np.float32),
}


def test_it_says_what_the_model_is_as_it_is_computed_with():
    template = Template.of(MODEL)
    assert list(template.formats) == list(MODEL)
    assert template.formats["brain"] == ((3,), np.dtype(np.float32))
    assert template.formats["half"] == ((4,), np.dtype(np.float16))
    assert template.measured == {"w", "half", "brain", "mask"}
    assert template.reference["mask"].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert template.reference["w"] is MODEL["w"]
    assert list(template.constants) == ["mask"]
    assert template.travelling == tuple(MODEL)


def test_a_completed_model_is_the_old_one_where_nothing_changed():
    template = Template.of(MODEL)
    whole = template.completed({"mask": np.arange(4.0), "brain": np.ones(3, np.float32)})
    assert list(whole) == list(MODEL)
    np.testing.assert_array_equal(whole["mask"], [0.0, -np.inf, np.nan, 3.0])
    assert whole["brain"].tobytes() == narrowed(np.ones(3, np.float32)).tobytes()
    assert all(whole[key] is MODEL[key] for key in MODEL if key not in ("mask", "brain"))


def test_replies_cannot_agree_to_send_one_array_of_a_pair_alone():
    model = {"a": np.zeros((2, 3)), "b": np.zeros((4, 2)), "w": np.zeros(5)}
    template = Template.of(model, space=LowRank({"a": "b"}))
    assert template.agreed([{"a", "b"}] * 3, 0) == ("a", "b")
    assert template.agreed([{"w"}] * 3, 0) == ("w",)
    assert template.agreed([{"a", "w"}] * 3, 0) == ("a", "b", "w")


def test_the_model_itself_is_not_changed():
    before = {key: array.tobytes() for key, array in MODEL.items()}
    template = Template.of(MODEL, distance_keys=["w"])
    template.completed(dict(template.reference))
    assert {key: array.tobytes() for key, array in MODEL.items()} == before


def test_an_option_is_read_as_often_as_it_is_asked():
    asked = []

    def is_measured(key):
        asked.append(key)
        return key == "w"

    assert Template.of(MODEL, distance_keys=is_measured).measured == {"w"}
    assert set(asked) == {"w", "half", "brain", "mask"}


# --- any replies at all ---


def any_array(rng, array):
    """Return what a client may make of an array: sound, more often than not."""
    wild = rng.choice([0.0, 1.5, np.nan, np.inf, -np.inf, 1e39, -1e300, 6e4])
    dtypes = [np.float16, np.float32, np.float64, np.int64, np.int8, np.uint16, bool]
    with np.errstate(all="ignore"):
        match rng.integers(0, 12):
            case 0:
                return np.full(array.shape, wild)
            case 1:
                changed = np.array(array.astype(np.float64) if array.dtype.kind == "f" else array)
                if changed.size and changed.dtype.kind == "f":
                    changed.reshape(-1)[rng.integers(0, changed.size)] = wild
                return changed
            case 2:
                return np.zeros(array.shape, dtypes[rng.integers(0, len(dtypes))])
            case 3:
                return np.zeros((*array.shape, 2), array.dtype)
            case 4:
                bits = rng.integers(0, 2**16, array.shape, np.uint16)
                return np.asarray(bits).view(BFLOAT16)
            case _:
                return array


def any_reply(rng, client, travelling):
    keys = [key for key in travelling if rng.random() < 0.98]
    arrays = {key: npy(any_array(rng, MODEL[key])) for key in rng.permutation(keys)}
    if rng.random() < 0.05:
        arrays["w"] = bytes(rng.integers(0, 256, 200, np.uint8))
    if rng.random() < 0.03:
        arrays["other"] = npy(np.zeros(3))
    if rng.random() < 0.05:
        return Reply(client, list(arrays.values()))
    return Reply(client, arrays)


OPTIONS = [
    {},
    {"shared_keys": ["w", "mask", "steps"]},
    {"distance_keys": ["brain"]},
    {"shared_keys": lambda key: key != "half", "distance_keys": ["mask", "w"]},
    None,
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", OPTIONS)
def test_of_any_replies_only_sound_ones_are_taken_in_and_nothing_raises(options):
    rng = np.random.default_rng(7)
    template = None if options is None else Template.of(MODEL, **options)
    taken = 0
    for _ in range(150):
        keys = tuple(MODEL) if template is None else template.travelling
        replies = [any_reply(rng, c, keys) for c in range(int(rng.integers(1, 8)))]
        intake = admit(replies, template, liars=int(rng.integers(0, 3)))
        assert len(intake.clients) + len(intake.refused) == len(replies)
        if intake.updates is None:
            continue
        taken += len(intake.clients)
        for model in intake.updates.models:
            for array, dtype in zip(model, intake.updates.dtypes, strict=True):
                assert array.dtype == dtype
                assert dtype.kind != "f" or np.isfinite(array).all()
        if template is not None:
            assert sorted((*intake.keys, *intake.kept)) == sorted(MODEL)
            layers = Average()(intake.updates).layers
            whole = template.completed(dict(zip(intake.keys, layers, strict=True)))
            for key, array in MODEL.items():
                assert (whole[key].shape, whole[key].dtype) == (array.shape, array.dtype)
    assert taken > 30
