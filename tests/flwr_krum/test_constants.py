"""Values of the global model that are not finite: accepted where they are, and there for ever."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flwr_krum.boundary.bfloat16 import BFLOAT16
from flwr_krum.boundary.intake import admit
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.template import Template
from flwr_krum.rules import Average, Krum, Medoid, MultiKrum
from tests.flwr_krum.npy_bytes import npy

MASK = np.where(np.tri(4, dtype=bool), 0.0, -np.inf).astype(np.float32)
MODEL = {
    "w": np.zeros((3, 2), np.float32),
    "mask": MASK,
    "unused": np.full(2, np.nan, np.float32),
    "mixed": np.array([0.0, np.inf, 0.0, np.nan], np.float64),
}


def sent_by(client, **instead):
    finite = {key: np.isfinite(array) for key, array in MODEL.items()}
    arrays = {
        key: np.where(finite[key], array.dtype.type(client), array) for key, array in MODEL.items()
    }
    return {**arrays, "mask": MASK, **instead}


def play(federation, rule, replies):
    strategy = federation.custom(rule)
    federation.configure(
        strategy, MODEL if federation.names_arrays else list(MODEL.values()), replies
    )
    contents = [(c, federation.content(sent, 10, {})) for c, sent in replies.items()]
    model, _ = federation.deliver(strategy, contents)
    return model and dict(zip(MODEL, model.values(), strict=True)), strategy.last_report


@pytest.mark.parametrize("rule", [Krum(2), MultiKrum(2), Medoid(), Average()])
def test_what_is_not_finite_in_the_global_model_refuses_nobody_and_stays(federation, rule):
    model, report = play(federation, rule, {c: sent_by(c) for c in range(1, 10)})
    assert not report.refused
    selected = [int(client) for client in report.selected]
    expected = sent_by(np.mean(selected))
    for key, array in MODEL.items():
        assert model[key].dtype == array.dtype
        np.testing.assert_array_equal(model[key], expected[key])


def test_it_enters_no_distance(federation):
    _, report = play(federation, Krum(2), {c: sent_by(c) for c in range(1, 10)})
    # Eight finite numbers move: w (6) and two of mixed.
    plain = Krum(2)(np.repeat(np.arange(1.0, 10.0)[:, None], 8, axis=1))
    np.testing.assert_allclose(list(report.scores.values()), plain.scores, rtol=1e-12)


WRONG = {
    "a number for -Inf": ("mask", np.zeros((4, 4), np.float32), "differs where"),
    "Inf for -Inf": ("mask", -MASK, "differs where the global model holds NaN or Inf"),
    "NaN for -Inf": ("mask", np.where(np.isinf(MASK), np.float32(np.nan), MASK), "differs where"),
    "-Inf where it holds a number": ("mask", np.full((4, 4), -np.inf, np.float32), "holds Inf"),
    "NaN where it holds a number": ("w", np.full((3, 2), np.nan, np.float32), "holds NaN"),
    "a number for NaN": ("unused", np.zeros(2, np.float32), "differs where"),
    "too large beside it": (
        "mask",
        np.where(np.isinf(MASK), np.float64(-np.inf), 1e39),
        "do not fit into",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_any_other_value_that_is_not_finite_is_refused(federation, case):
    key, array, reason = WRONG[case]
    replies = {c: sent_by(c) for c in range(1, 10)} | {5: sent_by(5, **{key: array})}
    _, report = play(federation, Krum(2), replies)
    assert [refusal.client for refusal in report.refused] == [federation.name(5)]
    assert reason in report.refused[0].reason


def test_the_same_constants_in_another_width_are_the_same(federation):
    wide = {key: array.astype(np.float64) for key, array in sent_by(5).items()}
    model, report = play(federation, Krum(2), {c: sent_by(c) for c in range(1, 10)} | {5: wide})
    assert not report.refused
    np.testing.assert_array_equal(model["mask"], MASK)


def test_several_rounds_leave_the_constants_in_place(federation):
    strategy = federation.custom(MultiKrum(2), server_learning_rate=0.5)
    model = MODEL if federation.names_arrays else list(MODEL.values())
    for t in (1, 2, 3):
        federation.configure(strategy, model, range(1, 10), t)
        contents = [(c, federation.content(sent_by(c), 10, {})) for c in range(1, 10)]
        new, _ = federation.deliver(strategy, contents, t)
        assert not strategy.last_report.refused
        model = new if federation.names_arrays else list(new.values())
    for array, key in zip(new.values(), MODEL, strict=True):
        np.testing.assert_array_equal(np.isnan(array), np.isnan(MODEL[key]))
        np.testing.assert_array_equal(np.isinf(array), np.isinf(MODEL[key]))


def test_constants_that_nobody_touches_are_held_once():
    mask = np.where(np.tri(512, dtype=bool), 0.0, -np.inf)
    template = Template.of({"w": np.zeros(3), "mask": mask})
    data = {"w": npy(np.ones(3)), "mask": npy(mask)}
    tracemalloc.start()
    intake = admit([Reply(c, data) for c in range(20)], template)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(intake.clients) == 20
    assert held < mask.nbytes / 2
    assert len({id(model[1]) for model in intake.updates.models}) == 1


def test_bfloat16_keeps_the_bits_of_its_constants():
    bits = np.array([0x3F80, 0xFF80, 0x7FC1, 0x0000], np.uint16).view(BFLOAT16)  # 1, -Inf, NaN, 0
    template = Template.of({"w": bits})
    intake = admit([Reply(c, {"w": npy(bits)}) for c in range(3)], template)
    assert not intake.refused
    layers = Average()(intake.updates).layers
    whole = template.completed({"w": layers[0]})
    assert whole["w"].tobytes() == bits.tobytes()
