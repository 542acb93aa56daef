"""A round whose certificate is required and does not say "holds" keeps the model, and says why."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flwr_krum.boundary.npy import decode
from flwr_krum.boundary.replies import Reply
from flwr_krum.journal import read_journal
from flwr_krum.log import conclusion
from flwr_krum.optimizers import FedAdam
from flwr_krum.round import Rounds
from flwr_krum.rules import Average, CenteredClipping, GeometricMedian, Krum, MultiKrum
from tests.flwr_krum.npy_bytes import npy

N, F, D = 11, 2, 6
FAR, NEAR = 1e6, 1.0


def replies_of(t, model, far, liars=F):
    """Return a round's replies about a model, of which the first few are so far away."""
    rng = np.random.default_rng(t)
    X = model + 0.3 + 0.1 * rng.standard_normal((N, D))
    X[:liars] += far - 1.0
    return X.astype(np.float32)


def play(rounds, t, model, far, liars=F):
    """Play a round; return the model after it, and its report."""
    rounds.begin({"w": model}, range(N))
    X = replies_of(t, model, far, liars)
    new, report = rounds.finish(t, [Reply(i, {"w": npy(row)}) for i, row in enumerate(X)])
    return (model if new is None else decode(new["w"])), report


def required(rule, **options):
    return Rounds(rule, require="certificate", largest_step=math.inf, **options)


START = np.zeros(D, np.float32)


# --- what becomes of a round ---


def test_a_round_that_does_not_hold_keeps_the_model_and_is_reported_with_its_reason(
    federation, tmp_path
):
    path = tmp_path / "journal.jsonl"
    strategy = federation.custom(
        Average(F), require="certificate", largest_step=math.inf, journal=path
    )
    replies = {i + 1: [row] for i, row in enumerate(replies_of(1, START, FAR))}
    federation.configure(strategy, [START], replies)
    new, metrics = federation.aggregate(strategy, replies)
    assert new is None
    assert metrics["certificate"] == 0.0
    report = strategy.last_report
    assert not report.stepped
    assert report.is_remarkable()
    assert report.certificate.verdict == "does not hold"
    assert report.note == 'require="certificate": it does not hold, and the step is not taken'
    assert report.lines()[-2:] == [report.note, "the global model stays as it is"]
    assert read_journal(path) == [report]


def test_a_round_that_holds_moves_the_model_as_if_nothing_were_required():
    for rule in (MultiKrum(F), GeometricMedian(F)):
        free, bound = Rounds(rule, largest_step=math.inf), required(rule)
        models = [play(rounds, 1, START, FAR)[0].tobytes() for rounds in (free, bound)]
        assert models[0] == models[1] != START.tobytes()
        assert bound.reports[-1].certificate.verdict == "holds"
        assert bound.reports[-1].note == free.reports[-1].note


@pytest.mark.parametrize("broken", [5, 6, 7])
def test_liars_who_make_the_verdict_unknowable_do_not_get_their_step(broken):
    rounds = required(GeometricMedian(3), on_infeasible="degrade")
    rounds.begin({"w": START}, range(N))
    X = replies_of(1, START, NEAR)
    X[:broken] = np.nan
    model, report = rounds.finish(1, [Reply(i, {"w": npy(row)}) for i, row in enumerate(X)])
    assert len(report.refused) == broken
    assert report.certificate.verdict == "cannot be known"
    assert report.note.endswith("it cannot be known, and the step is not taken")
    assert model is None


def test_a_round_that_takes_no_step_for_another_reason_gives_that_reason():
    rounds = Rounds(MultiKrum(F), require="certificate", largest_step=1e-9)
    _, report = play(rounds, 1, START, NEAR)
    assert "more than largest_step" in report.note
    assert "require" not in report.note
    assert not report.is_kept_uncertified


# --- what is remembered ---


def test_a_round_that_is_kept_leaves_the_optimisers_state_and_the_last_step_alone():
    rounds = required(Average(F), server_optimizer=FedAdam(eta=0.01))
    model, report = play(rounds, 1, START, NEAR)
    assert report.stepped
    before = {name: array.copy() for name, array in rounds.optimizer_state.items()}
    after, report = play(rounds, 2, model, FAR)
    assert (report.optimizer, report.steps) == ("", {})
    assert after is model
    assert before.keys() == rounds.optimizer_state.keys()
    assert all(np.array_equal(before[name], rounds.optimizer_state[name]) for name in before)

    # A clip that cuts nothing, so that it is an average that measures from the last step.
    rounds = required(CenteredClipping(F, tau=1e30, start="step"))
    model, report = play(rounds, 1, START, NEAR)
    assert report.stepped
    before = {name: array.copy() for name, array in rounds.last_step.items()}
    assert not play(rounds, 2, model, FAR)[1].stepped
    assert all(np.array_equal(before[name], rounds.last_step[name]) for name in before)


@pytest.mark.parametrize("stops", [1, 2, 3])
def test_a_run_that_goes_on_after_kept_rounds_ends_with_the_bytes_of_an_unbroken_one(
    stops, tmp_path
):
    far = {2: FAR, 3: FAR}

    def rounds_after(path, done, **state):
        optimizer = FedAdam(eta=0.01)
        return required(
            Average(F), server_optimizer=optimizer, journal=path, rounds_done=done, **state
        )

    def run(rounds, first, last, model):
        for t in range(first, last + 1):
            model, _ = play(rounds, t, model, far.get(t, NEAR))
        return model

    whole = run(rounds_after(tmp_path / "whole.jsonl", 0), 1, 5, START)
    path = tmp_path / "parts.jsonl"
    begun = rounds_after(path, 0)
    model = run(begun, 1, stops, START)
    state = begun.optimizer_state
    ended = run(rounds_after(path, stops, server_optimizer_state=state), stops + 1, 5, model)
    assert ended.tobytes() == whole.tobytes()
    moved = [report.stepped for report in read_journal(path)]
    assert moved == [True, False, False, True, True]


# --- what is said ---


def test_a_run_counts_the_rounds_that_were_kept_for_want_of_a_certificate():
    rounds = required(Average(F))
    for t, far in enumerate((NEAR, FAR, FAR), 1):
        play(rounds, t, START, far)
    lines = conclusion(rounds.reports)
    assert lines[0] == "1 of 3 rounds moved the model"
    assert "kept for want of a certificate that holds: the model in 2" in lines
    assert not [line for line in conclusion([rounds.reports[0]]) if "for want" in line]


def test_the_summary_says_what_is_required():
    def told(**options):
        (line,) = (x for x in Rounds(Krum(F), **options).summary("S") if "Certificate: " in x)
        return line.split("Certificate: ")[1]

    assert told() == "none"
    assert told(certificate=True) == "each round"
    assert told(require="certificate") == (
        "each round, and the model stays where it does not hold or cannot be known"
    )


# --- arguments ---


@pytest.mark.parametrize("require", ["guarantee", True, "", 1])
def test_nothing_else_can_be_required(require):
    with pytest.raises(ValueError, match=r"require must be None or one of \('certificate',\), got"):
        Rounds(Krum(F), require=require)


def test_a_certificate_that_is_required_cannot_be_declined(federation):
    for certificate in (None, True):
        assert Rounds(Krum(F), certificate=certificate, require="certificate").certificate is True
    assert Rounds(Krum(F)).certificate is False
    expected = "require='certificate' needs certificates, and certificate=False makes none"
    with pytest.raises(ValueError, match=expected):
        federation.custom(Krum(F), certificate=False, require="certificate")
