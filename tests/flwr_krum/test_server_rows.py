"""What the server adds to a round: its own model, made by ``root``, and its last step."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from flwr_krum.boundary.bfloat16 import BFLOAT16, widened
from flwr_krum.boundary.npy import decode
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.root import RootError
from flwr_krum.round import Rounds
from flwr_krum.rules import (
    CenteredClipping,
    FLTrust,
    Krum,
    MoNNA,
    MultiKrum,
    NearestNeighborMixing,
)
from flwr_krum.server_rows import LOST, LastStepError
from tests.flwr_krum.npy_bytes import npy

W = [np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), np.array([0.25, -0.25], np.float32)]
G = [np.array([[0.3, 0.1], [-0.2, 0.4]], np.float32), np.array([-0.1, 0.2], np.float32)]


def plus(model, step, times=1.0):
    return [a + np.float32(times) * b for a, b in zip(model, step, strict=True)]


def towards_g(model):
    return plus(model, G)


def row(model):
    return np.concatenate([layer.ravel() for layer in model])


# --- the server's own model ---


def test_fltrust_goes_the_servers_way_though_most_clients_lie(federation):
    strategy = federation.custom(FLTrust(), root=towards_g)
    rng = np.random.default_rng(0)
    w = W
    for t in range(1, 6):
        federation.configure(strategy, w, range(1, 10), t)
        honest = {
            i: plus(plus(w, G), [0.1 * rng.standard_normal(x.shape) for x in w]) for i in (1, 2, 3)
        }
        lies = {i: plus(w, G, -1e3) for i in range(4, 8)} | {8: plus(w, G, 1e6), 9: W}
        sent = {i: [x.astype(np.float32) for x in m] for i, m in (honest | lies).items()}
        new, _ = federation.aggregate(strategy, sent, t)
        step = row(new) - row(w)
        assert np.linalg.norm(step - row(G)) < 0.3 * np.linalg.norm(row(G))
        trusted = {int(client) for client in strategy.last_report.weights}
        assert trusted == {1, 2, 3, 8}  # 8 goes the right way, and no further than the server
        w = new


def test_root_is_called_once_a_round_with_the_global_model_before_anybody_is_ranked(federation):
    calls = []

    def root(model):
        calls.append([layer.copy() for layer in model])
        return towards_g(model)

    strategy = federation.custom(MoNNA(f=1), root=root)
    w = W
    for t in (1, 2, 3):
        federation.configure(strategy, w, range(1, 5), t)
        assert len(calls) == t
        np.testing.assert_array_equal(row(calls[-1]), row(w))
        w, _ = federation.aggregate(strategy, {i: plus(w, G, i / 4) for i in range(1, 5)}, t)
        assert strategy.last_report.selected == tuple(map(federation.name, (4, 3, 2)))
    assert len(calls) == 3


def test_no_reply_can_be_the_servers_own_model_and_the_report_names_clients_alone(federation):
    strategy = federation.custom(MoNNA(f=1), root=towards_g)
    federation.configure(strategy, W, range(1, 4))
    federation.aggregate(strategy, {i: plus(W, G, i) for i in range(1, 4)})
    report = strategy.last_report
    assert report.received == tuple(map(federation.name, (1, 2, 3)))
    assert set(report.selected) <= set(report.received)


def test_root_may_write_to_what_it_gets_and_go_on_with_what_it_returned(federation):
    kept = []

    def root(model):
        for layer, step in zip(model, G, strict=True):
            layer += step
        kept.append(model)
        return model

    strategy = federation.custom(FLTrust(), root=root)
    federation.configure(strategy, W, range(1, 4))
    for layer in kept[0]:
        layer[:] = np.nan
    new, _ = federation.aggregate(strategy, {i: plus(W, G) for i in range(1, 4)})
    np.testing.assert_allclose(row(new), row(W) + row(G), rtol=1e-6)


BAD = {
    "too few": (lambda model: model[:1], "root returns 1 arrays, the global model has 2"),
    "nothing": (lambda model: None, "root returns no list of arrays: "),
    "ragged": (lambda model: [[[1.0], [1.0, 2.0]], model[1]], "root returns no list of arrays: "),
    "shape": (
        lambda model: [model[0].T[:1], model[1]],
        "root returns a model that does not fit: array '0': shape (1, 2), expected (2, 2)",
    ),
    "dtype": (
        lambda model: [model[0].astype(int), model[1]],
        "root returns a model that does not fit: array '0': dtype int64, expected the kind of",
    ),
    "nan": (
        lambda model: [model[0], model[1] * np.nan],
        "root returns a model that does not fit: array '1': holds NaN",
    ),
    "inf": (
        lambda model: [model[0], model[1] * np.inf],
        "root returns a model that does not fit: array '1': holds Inf",
    ),
    "too large": (
        lambda model: [model[0], model[1].astype(float) * 1e300],
        "root returns a model that does not fit: array '1': values from",
    ),
    "text": (
        lambda model: [np.array([["a", "b"], ["c", "d"]]), model[1]],
        "root returns a model that does not fit: array '0': dtype <U1, expected the kind of",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_root_that_would_be_refused_as_a_reply_is_named_before_anybody_is_asked(federation, case):
    root, problem = BAD[case]
    strategy = federation.custom(FLTrust(), root=root)
    with pytest.raises(RootError, match=re.escape(problem)):
        federation.configure(strategy, W, range(1, 4))
    assert strategy.reports == []


def test_what_root_itself_raises_is_seen_as_it_is(federation):
    def root(model):
        raise OSError("the clean data are gone")

    strategy = federation.custom(FLTrust(), root=root)
    with pytest.raises(OSError, match="the clean data are gone"):
        federation.configure(strategy, W, range(1, 4))


def test_float64_from_root_counts_in_the_models_own_dtype(federation):
    strategy = federation.custom(FLTrust(), root=lambda w: [x.astype(float) for x in towards_g(w)])
    federation.configure(strategy, W, range(1, 4))
    new, _ = federation.aggregate(strategy, {i: plus(W, G) for i in range(1, 4)})
    assert [layer.dtype for layer in new] == [np.float32, np.float32]
    np.testing.assert_allclose(row(new), row(W) + row(G), rtol=1e-6)


def test_of_the_servers_own_model_only_what_travels_is_looked_at():
    rounds = Rounds(
        FLTrust(), shared_keys=["w"], root=lambda model: [model[0] * np.nan, model[1] + 1]
    )
    rounds.begin({"head": np.zeros(3), "w": np.zeros(2)}, [1, 2])
    replies = [Reply(i, {"w": npy(np.full(2, 2.0))}) for i in (1, 2)]
    model, _ = rounds.finish(1, replies)
    assert decode(model["w"]).tolist() == [1.0, 1.0]


def test_constants_of_the_global_model_are_roots_to_keep():
    model = {"w": np.zeros(2), "mask": np.array([-np.inf, 0.0])}
    reply = {"w": npy(np.full(2, 2.0)), "mask": npy(np.array([-np.inf, 2.0]))}
    rounds = Rounds(FLTrust(), root=lambda arrays: [array + 1.0 for array in arrays])
    rounds.begin(model, [1, 2])
    new, _ = rounds.finish(1, [Reply(i, reply) for i in (1, 2)])
    assert decode(new["w"]).tolist() == [1.0, 1.0]
    assert decode(new["mask"]).tolist() == [-np.inf, 1.0]
    finite = Rounds(FLTrust(), root=lambda arrays: [np.zeros(2), np.zeros(2)])
    with pytest.raises(RootError, match="'mask': differs where the global model holds NaN or Inf"):
        finite.begin(model, [1, 2])


def test_root_sees_bfloat16_as_float32_and_may_return_that():
    ones = np.full(2, 0x3F80, np.uint16).view(BFLOAT16)
    twos = np.full(2, 0x4000, np.uint16).view(BFLOAT16)
    seen = []

    def root(arrays):
        seen.extend(arrays)
        return [array + 0.5 for array in arrays]

    rounds = Rounds(FLTrust(), root=root)
    rounds.begin({"w": ones}, [1, 2])
    model, _ = rounds.finish(1, [Reply(i, {"w": npy(twos)}) for i in (1, 2)])
    assert seen[0].dtype == np.float32
    assert widened(decode(model["w"])).tolist() == [1.5, 1.5]


@pytest.mark.parametrize("rule", [FLTrust(2), MoNNA(2), NearestNeighborMixing(2) | FLTrust(2)])
def test_a_rule_that_needs_root_is_refused_without_it_with_the_remedy(federation, rule):
    with pytest.raises(ValueError, match=r"needs a model of the server's own: give root=, a func"):
        federation.custom(rule)


@pytest.mark.parametrize("rule", [Krum(2), MoNNA(2, pivot="step")])
def test_root_for_a_rule_that_has_no_use_for_it_is_refused(federation, rule):
    with pytest.raises(ValueError, match=r"root is given, but \w+\(f=2.* has no use for a model"):
        federation.custom(rule, root=towards_g)
    with pytest.raises(ValueError, match="root is given, but MultiKrum"):
        federation.strategy("MultiKrum", f=1, root=towards_g)


def test_root_must_be_a_function(federation):
    with pytest.raises(TypeError, match="root must be a function of the global model, got 7"):
        federation.custom(FLTrust(), root=7)


def test_a_rule_of_ones_own_cannot_ask_for_rows_that_no_server_has():
    class Odd(MultiKrum):
        server_rows = ("oracle",)

    with pytest.raises(ValueError, match=r"asks the server for \['oracle'\], it has \['root', 's"):
        Rounds(Odd(1))


def test_without_a_configured_round_the_rule_says_what_it_needs():
    rounds = Rounds(FLTrust(), root=towards_g)
    with pytest.raises(ValueError, match="needs the global model: let the strategy configure the"):
        rounds.finish(1, [Reply(i, {"w": npy(np.ones(2))}) for i in (1, 2)])


# --- the last step ---


def test_monna_without_a_root_follows_the_last_step(federation):
    strategy = federation.custom(MoNNA(f=1, pivot="step"))
    federation.configure(strategy, W, range(1, 4), 1)
    # Nothing came before: the nearest to the global model itself.
    first, _ = federation.aggregate(strategy, {1: plus(W, G), 2: plus(W, G), 3: plus(W, G, -9)}, 1)
    assert strategy.last_report.selected == (federation.name(1), federation.name(2))
    federation.configure(strategy, first, range(1, 4), 2)
    sent = {1: plus(first, G, -0.5), 2: plus(first, G, 1.25), 3: plus(first, G, 0.75)}
    federation.aggregate(strategy, sent, 2)
    assert set(strategy.last_report.selected) == {federation.name(2), federation.name(3)}


def test_a_round_that_is_skipped_leaves_the_last_step_as_it_was(federation):
    strategy = federation.custom(MoNNA(f=1, pivot="step"))
    federation.configure(strategy, W, range(1, 4), 1)
    w, _ = federation.aggregate(strategy, {i: plus(W, G) for i in range(1, 4)}, 1)
    federation.configure(strategy, w, range(1, 4), 2)
    assert federation.aggregate(strategy, {1: plus(w, G, -3)}, 2)[0] is None
    federation.configure(strategy, w, range(1, 4), 3)
    sent = {1: plus(w, G, -0.5), 2: plus(w, G), 3: plus(w, G)}
    federation.aggregate(strategy, sent, 3)
    assert set(strategy.last_report.selected) == {federation.name(2), federation.name(3)}


def test_a_step_beyond_the_largest_float_ends_there():
    largest = np.finfo(np.float32).max
    rounds = Rounds(MoNNA(f=1, pivot="step"))
    rounds.begin({"w": np.zeros(2, np.float32)}, [1, 2, 3])
    replies = [Reply(i, {"w": npy(np.full(2, 0.9 * largest, np.float32))}) for i in (1, 2, 3)]
    rounds.finish(1, replies)
    rounds.begin({"w": np.full(2, 0.9 * largest, np.float32)}, [1, 2, 3])
    back = Reply(1, {"w": npy(np.zeros(2, np.float32))})
    model, report = rounds.finish(2, [back, *replies[1:]])
    assert model is not None
    assert report.selected == (2, 3)


# --- over a restart ---

FOLLOWING = {
    "monna": MoNNA(f=1, pivot="step"),
    "clipping": CenteredClipping(f=1, tau=0.5, start="step"),
    "chain": NearestNeighborMixing(f=1) | CenteredClipping(f=1, start="step"),
}
following = pytest.mark.parametrize("rule", FOLLOWING.values(), ids=FOLLOWING)


def saved(arrays):
    """Return arrays as they come back from a file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as found:
        return {key: found[key] for key in found}


def sent_in(t, w):
    rng = np.random.default_rng(t)
    return {
        i: plus(w, [rng.standard_normal(x.shape).astype(x.dtype) for x in w]) for i in (1, 2, 3)
    }


def play(federation, strategy, layers, ts, done=0):
    for t in ts:
        federation.configure(strategy, layers, range(1, 4), t - done)
        sent = {} if t == 3 else sent_in(t, layers)  # nobody answers
        made, _ = federation.aggregate(strategy, sent, t - done)
        layers = made or layers
    return layers


@pytest.mark.parametrize("with_journal", [True, False])
@following
def test_a_resumed_run_measures_from_the_last_step_and_ends_with_the_same_bytes(
    federation, tmp_path, rule, with_journal
):
    def made(name, **options):
        return federation.custom(
            rule, **options | ({"journal": tmp_path / name} if with_journal else {})
        )

    expected = play(federation, made("whole"), W, range(1, 7))
    for done in (1, 2, 3, 5):
        begun = made(f"parts {done}")
        layers = play(federation, begun, W, range(1, done + 1))
        step = saved(begun.last_step)
        resumed = made(f"parts {done}", rounds_done=done, server_last_step=step)
        layers = play(federation, resumed, layers, range(done + 1, 7), done)
        assert [x.tobytes() for x in layers] == [x.tobytes() for x in expected]
        assert not any(LOST in report.note for report in resumed.reports)


@following
def test_a_run_that_goes_on_without_its_last_step_says_so_until_there_is_one(federation, rule):
    strategy = federation.custom(rule, rounds_done=2)
    assert strategy.last_step == {}
    play(federation, strategy, W, range(3, 6), 2)
    notes = [report.note for report in strategy.reports]
    assert [LOST in note for note in notes[-2:]] == [True, False]
    fresh = federation.custom(rule)
    play(federation, fresh, W, range(1, 2))
    assert LOST not in fresh.last_report.note


@following
def test_where_the_journal_knows_of_no_step_none_is_missing(federation, tmp_path, rule):
    path = tmp_path / "journal"
    play(federation, federation.custom(rule, journal=path), W, [3])
    strategy = federation.custom(rule, journal=path, rounds_done=3)
    play(federation, strategy, W, [4], 3)
    assert strategy.last_report.stepped
    assert LOST not in strategy.last_report.note


def test_a_rule_that_does_not_measure_from_the_last_step_keeps_none_and_takes_none(federation):
    strategy = federation.custom(Krum(0))
    play(federation, strategy, W, [1])
    assert strategy.last_step == {}
    federation.custom(Krum(0), rounds_done=1, server_last_step=strategy.last_step)
    with pytest.raises(LastStepError, match=r"given, but Krum.* has no use for it: leave"):
        federation.custom(Krum(0), server_last_step={"last-step/round": np.array(1)})


NOT_ITS_LAST_STEP = {
    "no round": (lambda s: {k: a for k, a in s.items() if "round" not in k}, "is no last step"),
    "nan": (lambda s: s | {"last-step/1": np.full(2, np.nan, np.float32)}, "is no last step"),
    "counters": (lambda s: s | {"last-step/1": np.arange(2)}, "is no last step"),
    "a model": (lambda s: s | {"w": W[0]}, "is no last step"),
    "a later round": (
        lambda s: s | {"last-step/round": np.array(4)},
        "the last step is that of round 4, but rounds_done is 2",
    ),
    "an earlier round": (
        lambda s: s | {"last-step/round": np.array(1)},
        "that of round 1, but rounds_done is 2, and the model moved last in round 2",
    ),
}


@pytest.mark.parametrize("case", NOT_ITS_LAST_STEP)
def test_what_is_not_the_last_step_of_these_rounds_is_refused(federation, tmp_path, case):
    change, message = NOT_ITS_LAST_STEP[case]
    rule, journal = MoNNA(f=1, pivot="step"), tmp_path / "journal"
    strategy = federation.custom(rule, journal=journal)
    play(federation, strategy, W, [1, 2])
    state = change(strategy.last_step)
    with pytest.raises(LastStepError, match=f"{message}.*: give server_last_step="):
        federation.custom(rule, journal=journal, rounds_done=2, server_last_step=state)


def test_the_last_step_of_another_model_is_refused_before_anybody_is_asked(federation):
    rule = MoNNA(f=1, pivot="step")
    strategy = federation.custom(rule)
    play(federation, strategy, W, [1])
    state = strategy.last_step
    for other in ([W[0].T[:1], W[1]], [layer.astype(float) for layer in W]):
        resumed = federation.custom(rule, rounds_done=1, server_last_step=state)
        with pytest.raises(LastStepError, match="the last step of array '0' is float32"):
            federation.configure(resumed, other, range(1, 4))


def test_a_round_that_cannot_be_written_down_is_no_last_step(tmp_path):
    rounds = Rounds(MoNNA(f=1, pivot="step"), journal=tmp_path / "journal")
    rounds.begin({"w": np.zeros(2)}, [1, 2, 3])
    (tmp_path / "journal").write_text("somebody else's")
    with pytest.raises(ValueError, match="somebody else writes it"):
        rounds.finish(1, [Reply(i, {"w": npy(np.ones(2))}) for i in (1, 2, 3)])
    assert list(rounds.last_step) == ["last-step/round"]
