"""Replies that hold a part of the model: which arrays travel, and who decides it."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import MetricRecord

from flwr_krum.boundary.intake import admit
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.template import Template
from flwr_krum.round import Rounds
from flwr_krum.rules import Krum
from tests.flwr_krum.npy_bytes import npy

KEYS = ("conv.weight", "bn.weight", "bn.running_mean", "bn.num_batches_tracked", "fc.weight")
MODEL = {
    "conv.weight": np.zeros((4, 3), np.float32),
    "bn.weight": np.full(4, 5.0, np.float32),
    "bn.running_mean": np.full(4, 6.0),
    "bn.num_batches_tracked": np.array(7),
    "fc.weight": np.zeros((2, 4), np.float16),
}
SHARED = ("conv.weight", "fc.weight")
"""What clients of FedBN send: they keep layers whose key contains "bn"."""


def sent_by(client, keys=SHARED, value=None):
    value = client if value is None else value
    return {key: np.full_like(MODEL[key], value) for key in keys}


def play(federation, replies, f=2, **options):
    """Play a round; return the new model by key, and the report."""
    strategy = federation.strategy("MultiKrum", f, **options)
    named = federation.names_arrays
    federation.configure(strategy, MODEL if named else list(MODEL.values()), replies)
    contents = [(c, federation.content(sent, 10, {})) for c, sent in replies.items()]
    model, _ = federation.deliver(strategy, contents)
    if model is not None:
        assert list(model) == (list(MODEL) if named else [str(i) for i in range(len(MODEL))])
        model = dict(zip(MODEL, model.values(), strict=True))
    return model, strategy.last_report


def refused(report):
    return {refusal.client: refusal.reason for refusal in report.refused}


def assert_aggregated(model, values, keys=SHARED, counts=()):
    """Check that these keys hold the mean of the values, and the others stayed to the bit."""
    for key, array in MODEL.items():
        assert (model[key].dtype, model[key].shape) == (array.dtype, array.shape)
        value = (
            np.mean(values)
            if array.dtype.kind == "f"
            else sorted(counts or [0])[(len(counts) - 1) // 2]
        )
        expected = np.full_like(array, value) if key in keys else array
        np.testing.assert_array_equal(model[key], expected)


def test_what_all_replies_hold_is_aggregated_and_the_rest_of_the_model_stays(message_federation):
    model, report = play(message_federation, {c: sent_by(c) for c in range(1, 10)})
    assert not report.refused
    assert len(report.selected) == 7
    assert_aggregated(model, report.selected)
    assert report.kept == ("bn.weight", "bn.running_mean", "bn.num_batches_tracked")
    told = "not sent, and kept: 'bn.num_batches_tracked', 'bn.running_mean', 'bn.weight'"
    assert told in report.lines()


def test_several_rounds_go_on_from_a_whole_model(message_federation):
    strategy = message_federation.strategy("Krum", 2)
    model = MODEL
    for t in (1, 2, 3):
        message_federation.configure(strategy, model, range(1, 10), t)
        contents = [(c, message_federation.content(sent_by(c + t), 10, {})) for c in range(1, 10)]
        model, _ = message_federation.deliver(strategy, contents, t)
        assert_aggregated(model, [strategy.last_report.selected[0] + t])


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (KEYS, "unknown 'bn.num_batches_tracked', 'bn.running_mean', 'bn.weight'"),
        (SHARED[:1], "missing 'fc.weight'"),
        ((*SHARED, "bn.weight"), "unknown 'bn.weight'"),
        (KEYS[1:4], "missing 'conv.weight', 'fc.weight' unknown 'bn.num_batches_tracked'"),
    ],
)
@pytest.mark.parametrize("liars", [1, 2])
def test_a_reply_with_another_subset_is_refused(message_federation, other, reason, liars):
    replies = {c: sent_by(c, other if c <= liars else SHARED) for c in range(1, 10)}
    model, report = play(message_federation, replies)
    assert list(refused(report)) == list(range(1, liars + 1))
    assert all(reason in why for why in refused(report).values())
    assert "keys differ from those that travel" in refused(report)[1]
    assert_aggregated(model, report.selected)


def test_an_unsound_partial_reply_is_refused_for_what_it_holds(message_federation):
    bad = {
        1: sent_by(1, value=np.nan),
        2: {**sent_by(2), "conv.weight": np.zeros((3, 4), np.float32)},
        3: {**sent_by(3), "extra": np.zeros(3)},
        4: {},
    }
    replies = {c: bad.get(c, sent_by(c)) for c in range(1, 16)}
    model, report = play(message_federation, replies, f=4)
    assert refused(report) == {
        1: "array 'conv.weight': holds NaN",
        2: "array 'conv.weight': shape (3, 4), expected (4, 3)",
        3: "keys differ from the model's: missing 'bn.num_batches_tracked', 'bn.running_mean', "
        "'bn.weight' unknown 'extra'",
        4: "keys differ from those that travel: missing 'conv.weight', 'fc.weight'",
    }
    assert_aggregated(model, report.selected)


# --- who decides ---


@pytest.mark.parametrize("lie", [SHARED, SHARED[:1], (), ("bn.num_batches_tracked",)])
@pytest.mark.parametrize(("n", "f"), [(7, 2), (9, 2), (20, 8)])
def test_f_liars_cannot_take_a_layer_out_of_a_model_that_travels_whole(
    message_federation, lie, n, f
):
    replies = {c: sent_by(c, lie if c <= f else KEYS) for c in range(1, n + 1)}
    model, report = play(message_federation, replies, f)
    assert [why.split(":")[0] for why in refused(report).values()] == [
        "keys differ from the model's"
    ] * f
    assert report.kept == ()
    assert_aggregated(model, report.selected, KEYS, counts=report.received)
    assert min(report.selected) > f


def test_f_liars_alone_decide_nothing_even_if_most_others_are_silent(message_federation):
    # Eight liars agree on a subset; of twelve honest clients seven send all.
    replies = {c: sent_by(c, SHARED[:1] if c <= 8 else KEYS) for c in range(1, 16)}
    model, report = play(message_federation, replies, f=8)
    assert list(refused(report)) == list(range(1, 9))
    assert report.kept == ()
    assert model is None or min(report.selected) > 8


@pytest.mark.parametrize("split", [(5, 4), (6, 3), (3, 6)])
def test_where_the_replies_do_not_agree_the_whole_model_is_required(message_federation, split):
    # More than f = 2 replies hold something else: some of them are honest.
    part, whole = split
    replies = {c: sent_by(c, SHARED if c <= part else KEYS) for c in range(1, part + whole + 1)}
    _, report = play(message_federation, replies)
    assert list(report.received) == list(range(part + 1, 10))
    assert all("keys differ from the model's: missing" in w for w in refused(report).values())
    assert report.kept == ()


@pytest.mark.parametrize(
    "subset", [(), ("bn.num_batches_tracked",), ("bn.weight", "bn.num_batches_tracked")]
)
def test_a_subset_that_no_distance_sees_is_refused(message_federation, subset):
    replies = {c: sent_by(c, subset) for c in range(1, 10)}
    model, report = play(message_federation, replies, distance_keys=["conv.weight", "fc.weight"])
    assert model is None
    assert len(report.refused) == 9
    assert report.note == "no reply was accepted"


def test_no_honest_federation_and_no_f_liars_lead_to_anything_but_the_honest_keys():
    rng = np.random.default_rng(0)
    template = Template.of(MODEL)
    subsets = [KEYS, SHARED, SHARED[:1], KEYS[:3], KEYS[1:4], ()]
    for _ in range(300):
        f = int(rng.integers(0, 6))
        honest = subsets[rng.integers(0, 4)]
        lies = [subsets[i] for i in rng.integers(0, len(subsets), f)]
        held = [honest] * int(rng.integers(f + 1, 2 * f + 4)) + lies
        order = rng.permutation(len(held))
        found = template.agreed([frozenset(held[i]) for i in order], f)
        assert found == honest


# --- the operator says which keys travel ---

IS_SHARED = {
    "a list": SHARED,
    "a set": set(SHARED),
    "a function": lambda key: "bn" not in key,
}


@pytest.mark.parametrize("form", IS_SHARED)
def test_the_operator_can_name_the_keys_that_travel(message_federation, form):
    replies = {c: sent_by(c, KEYS if c in (3, 4) else SHARED) for c in range(1, 10)}
    model, report = play(message_federation, replies, shared_keys=IS_SHARED[form])
    assert list(refused(report)) == [3, 4]
    assert "keys differ from those that travel: unknown 'bn" in refused(report)[3]
    assert_aggregated(model, report.selected)


def test_named_keys_hold_whatever_the_replies_agree_on(message_federation):
    replies = {c: sent_by(c, KEYS if c > 2 else SHARED) for c in range(1, 10)}
    model, report = play(message_federation, replies, shared_keys=SHARED)
    assert list(report.received) == [1, 2]
    assert model is None


def test_without_names_replies_go_by_position_and_their_count_must_match(federation):
    if federation.names_arrays:
        return
    model, report = play(federation, {c: sent_by(c) for c in range(1, 10)})
    assert model is None
    assert set(refused(report).values()) == {
        "2 arrays, expected 5: without names they go by position"
    }
    for positions in (["0", "4"], [0, 4], lambda key: key in "04"):
        replies = {c: sent_by(c, KEYS if c == 3 else SHARED) for c in range(1, 10)}
        model, report = play(federation, replies, shared_keys=positions)
        assert refused(report) == {"3": "5 arrays, expected 2: without names they go by position"}
        assert_aggregated(model, [int(client) for client in report.selected])


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (["conv.weight", "fc.wieght"], "shared_keys holds 'fc.wieght', expected some of"),
        (lambda key: "lora" in key, "shared_keys matches none of"),
        (["bn.num_batches_tracked"], "shared_keys and distance_keys need a float array in common"),
    ],
)
def test_keys_that_cannot_be_are_named_before_the_first_round(message_federation, keys, error):
    strategy = message_federation.strategy("Krum", 1, shared_keys=keys)
    with pytest.raises(ValueError, match=error):
        message_federation.configure(strategy, MODEL, range(1, 10))


@pytest.mark.parametrize("option", ["shared_keys", "distance_keys"])
@pytest.mark.parametrize("keys", ["conv.weight", b"x", 5, 1.5])
def test_a_single_text_is_no_list_of_keys(federation, option, keys):
    with pytest.raises(TypeError, match=f"{option} must be a list of keys or a function of a key"):
        federation.strategy("Krum", 1, **{option: keys})


def test_named_keys_need_the_global_model():
    rounds = Rounds(Krum(0), shared_keys=["w"])
    with pytest.raises(ValueError, match="need the global model"):
        rounds.finish(1, [Reply(1, {"w": npy(np.zeros(3))})])


def test_a_step_is_scaled_in_the_shared_keys_alone(message_federation):
    replies = {c: sent_by(c, value=4.0) for c in range(1, 10)}
    model, _ = play(message_federation, replies, server_learning_rate=0.25)
    assert_aggregated(model, [1.0])


def test_the_model_that_was_chosen_goes_out_as_the_bytes_it_came_in():
    rounds = Rounds(Krum(1))
    rounds.begin(MODEL, range(1, 6))
    sent = [{key: npy(array) for key, array in sent_by(c).items()} for c in range(1, 6)]
    replies = [Reply(c, arrays, metrics=MetricRecord()) for c, arrays in enumerate(sent, 1)]
    model, report = rounds.finish(1, replies)
    chosen = sent[report.selected[0] - 1]
    assert all(model[key] is chosen[key] for key in SHARED)
    assert {key: model[key] for key in KEYS[1:4]} == {key: npy(MODEL[key]) for key in KEYS[1:4]}


def test_a_template_is_taken_in_whatever_the_order_of_the_replies():
    replies = [
        Reply(c, {key: npy(array) for key, array in sent_by(c, keys).items()})
        for c, keys in enumerate([SHARED, KEYS, SHARED[::-1], SHARED, SHARED[:1]], 1)
    ]
    intakes = [admit(order, Template.of(MODEL), liars=2) for order in (replies, replies[::-1])]
    assert intakes[0].clients == intakes[1].clients == (1, 3, 4)
    assert intakes[0].refused == intakes[1].refused
    assert intakes[0].keys == SHARED
