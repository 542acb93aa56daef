"""One hostile reply of every kind beside honest ones: for every rule, through both APIs.

Replies pass through Flower's own serialization, so a strategy meets what a network would bring.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_krum.attacks import FAULTS
from flwr_krum.rules import Average, OneMinusPKrum
from tests.flwr_krum.references import f_in_force

N, F, HOSTILE = 9, 2, 5
SHAPES = {"body.weight": (4, 3), "body.bias": (3,), "head.weight": (2, 3)}
GLOBAL = {key: np.ones(shape, np.float32) for key, shape in SHAPES.items()}


def honest_model(client: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(client)
    return {
        key: (array + 0.01 * rng.standard_normal(array.shape)).astype(np.float32)
        for key, array in GLOBAL.items()
    }


# --- what each fault must come to ---


@dataclass(frozen=True)
class Fate:
    """What becomes of a reply: "refused", "doubted", "failed", "taken" or "harmless", and why.

    "taken" is a hostile model that only the rule can reject; "harmless" is as good as honest.
    """

    kind: str
    reason: str = ""


REFUSED = {
    "nan": "holds NaN",
    "one-nan": "array 'body.weight': holds NaN",
    "inf": "holds Inf",
    "one-minus-inf": "array 'body.weight': holds Inf",
    "huge-float64": "values from 1e+300 to 1e+300 do not fit into float32",
    "wrong-size": "array 'body.weight': shape (13,), expected (4, 3)",
    "reshaped": "array 'body.weight': shape (3, 4), expected (4, 3)",
    "missing-array": "keys differ from the model's: missing 'body.weight'",
    "extra-array": "keys differ from the model's: unknown 'extra'",
    "renamed-array": "missing 'body.weight' unknown 'body.weightx'",
    "swapped-arrays": "shape (4, 3), expected (3,)",
    "no-arrays": "keys differ from the model's: missing",
    "no-record": "0 ArrayRecords, expected 1",
    "two-records": "2 ArrayRecords, expected 1",
    "integers": "dtype int64, expected the kind of float32",
    "complex": "array 'body.weight': dtype '<c8'",
    "strings": "array 'body.weight': dtype '<U1'",
    "objects": "array 'body.weight': dtype '|O'",
    "garbage": "array 'body.weight': not an npy array",
    "no-bytes": "array 'body.weight': not an npy array",
    "truncated": "array 'body.weight': ",
    "giant-header": "its header claims 400000000000",
    "unknown-serialization": "serialized as 'pickle'",
}
DOUBTED = {
    "no-metrics": "is missing",
    "extra-metric": "metric 'extra' is unknown to most",
    "nan-metric": "metric 'loss' is nan, expected finite numbers",
    "list-metric": "metric 'loss' is a list of 2, most send a number",
    "examples-missing": "metric 'num-examples' is missing",
    "examples-zero": "'num-examples' is 0, expected more than 0",
    "examples-negative": "'num-examples' is -60, expected more than 0",
    "examples-nan": "metric 'num-examples' is nan, expected finite numbers",
    "examples-inf": "metric 'num-examples' is inf, expected finite numbers",
    "examples-1e15": "'num-examples' is 1000000000000000, the median is",
    "examples-list": "metric 'num-examples' is a list of 2, most send a number",
}
TAKEN = ("huge", "denormal")
HARMLESS = ("float64", "float16")

FATES = {
    **{name: Fate("refused", reason) for name, reason in REFUSED.items()},
    **{name: Fate("doubted", reason) for name, reason in DOUBTED.items()},
    **{name: Fate("taken") for name in TAKEN},
    **{name: Fate("harmless") for name in HARMLESS},
    "error": Fate("failed", "out of memory"),
    "twice": Fate("refused", "2 replies in one round, expected 1"),
}
# In this API arrays have positions instead of names and records have fixed names; what Flower
# cannot read as a result is a failure, and metrics travel apart from the example count.
FIT_FATES = FATES | {
    "missing-array": Fate("refused", "2 arrays, expected 3: without names they go by position"),
    "extra-array": Fate("refused", "4 arrays, expected 3: without names they go by position"),
    "renamed-array": Fate("harmless"),
    "swapped-arrays": Fate("harmless"),
    "no-arrays": Fate("refused", "0 arrays, expected 3: without names they go by position"),
    "no-record": Fate("failed", "fitres.parameters"),
    "two-records": Fate("harmless"),
    "no-metrics": Fate("failed", "fitres.num_examples"),
    "examples-missing": Fate("failed", "num_examples"),
    "extra-metric": Fate("harmless"),
    "nan-metric": Fate("harmless"),
    "list-metric": Fate("harmless"),
}


def fate_of(federation, case: str) -> Fate:
    if federation.names_arrays:
        return FATES[case]
    fate = FIT_FATES[case]
    return replace(fate, reason=fate.reason.replace("'body.weight'", "'0'"))


# --- one round ---

CHOOSING = next(t for t in range(1, 50) if not OneMinusPKrum(F, seed=0).averages(t))
RULES = {
    "average": 1,
    "krum": 1,
    "multi-krum": 1,
    "medoid": 1,
    "1-p krum that averages": 1,
    "1-p krum that chooses": CHOOSING,
}
"""Rules, each with a round in which to try it."""
STEERED_BY_ONE = ("average", "1-p krum that averages")
PICKS_ONE = ("krum", "medoid", "1-p krum that chooses")


def build(federation, rule: str, f: int = F, **options):
    match rule:
        case "average":
            return federation.custom(Average(), **options)
        case "medoid":
            return federation.strategy("Medoid", **options)
        case "krum" | "multi-krum":
            return federation.strategy({"krum": "Krum"}.get(rule, "MultiKrum"), f, **options)
        case _:
            return federation.strategy("OneMinusPKrum", f, seed=0, **options)


def declared_of(rule: str, replies: int) -> int:
    """Return the f that a rule reckons with: F, or what a medoid bears and a mean does not."""
    return {"average": 0, "medoid": (replies - 1) // 2}.get(rule, F)


def in_force(rule: str, refused: int) -> int:
    """Return the f in force where so many of N replies are refused."""
    least = (lambda f: 2 * f + 1) if rule == "medoid" else (lambda f: 2 * f + 3)
    return f_in_force(declared_of(rule, N), N - refused, refused, least)


def honest_content(federation, client: int):
    return federation.content(honest_model(client), 10 + client, {"loss": 0.1 * client})


def hostile_contents(federation, client: int, case: str) -> list:
    """Return what a client sends, one entry per reply."""
    if case == "error":
        return [RuntimeError("out of memory")]
    content = honest_content(federation, client)
    if case == "twice":
        return [content, deepcopy(content)]
    if case != "honest":
        FAULTS[case](content)
    return [content]


def play(federation, strategy, cases, t=1, order=None):
    """Play one round in which clients do as their cases say; "silent" ones do not answer."""
    federation.configure(strategy, GLOBAL if federation.names_arrays else list(GLOBAL.values()),
                         cases, t)  # fmt: skip
    replies = [
        (client, content)
        for client, case in cases.items()
        if case != "silent"
        for content in hostile_contents(federation, client, case)
    ]
    if order is not None:
        order.shuffle(replies)
    return federation.deliver(strategy, replies, t)


def all_honest(n=N, **instead):
    return dict.fromkeys(range(1, n + 1), "honest") | {int(k[1:]): v for k, v in instead.items()}


def bytes_of(model):
    return None if model is None else [(k, a.dtype.str, a.shape, a.tobytes())
                                       for k, a in model.items()]  # fmt: skip


def assert_like_the_model(federation, model):
    names = list(SHAPES) if federation.names_arrays else [str(i) for i in range(len(SHAPES))]
    assert list(model) == names
    assert [array.shape for array in model.values()] == list(SHAPES.values())
    assert {array.dtype for array in model.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(array).all() for array in model.values())


def assert_between(model, clients):
    for i, (found, key) in enumerate(zip(model.values(), SHAPES, strict=True)):
        sent = np.stack([honest_model(client)[key] for client in clients])
        assert (sent.min(axis=0) <= found).all(), i
        assert (found <= sent.max(axis=0)).all(), i


@pytest.fixture(scope="session")
def honest_bytes(federation):
    """A function that plays a round of honest clients, once for each rule and set of clients."""

    @cache
    def play_honest(rule, clients):
        cases = dict.fromkeys(clients, "honest")
        return bytes_of(play(federation, build(federation, rule), cases, RULES[rule])[0])

    return play_honest


def test_every_fault_has_a_fate():
    assert set(FATES) == set(FIT_FATES) == {*FAULTS, "error", "twice"}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", FATES)
def test_one_hostile_reply_changes_nothing_that_it_must_not(federation, honest_bytes, rule, case):
    fate, t, me = fate_of(federation, case), RULES[rule], federation.name(HOSTILE)
    strategy = build(federation, rule)
    model, metrics = play(federation, strategy, all_honest(_5=case), t)
    report = strategy.reports[-1]
    others = [i for i in range(1, N + 1) if i != HOSTILE]

    if fate.kind == "taken" and rule in STEERED_BY_ONE:
        # Nothing but the length of the step stops it.
        assert model is None
        assert not report.stepped
        assert "more than largest_step=10: it is not taken" in report.note
        return
    assert report.stepped
    assert_like_the_model(federation, model)
    if fate.kind == "refused":
        assert [r.client for r in report.refused] == [me]
        assert fate.reason in report.refused[0].reason
        assert report.byzantine == in_force(rule, 1)
        # Not a trace of it: the round is that of the others.
        assert bytes_of(model) == honest_bytes(rule, tuple(others))
    elif fate.kind == "failed":
        assert any(fate.reason in text for text in report.failed.values())
        assert (me in report.failed) or (me in report.silent)
        assert report.byzantine == declared_of(rule, N - 1)
    else:
        assert me in report.received
        assert report.byzantine == declared_of(rule, N)
    assert metrics["refused"] == len(report.refused) == (fate.kind == "refused")
    assert metrics["accepted"] == len(report.received)

    if fate.kind in ("refused", "failed"):
        assert report.received == tuple(map(federation.name, others))
        assert me not in report.selected
        assert_between(model, others)
    if fate.kind == "doubted":
        assert list(report.doubted) == [me]
        assert fate.reason in report.doubted[me]
        # The arrays are honest ones: what a client says about itself weighs nothing.
        assert bytes_of(model) == honest_bytes(rule, tuple(all_honest()))
    else:
        assert not report.doubted
    if fate.kind == "taken":
        assert me not in report.selected
        assert_between(model, others)
    if fate.kind == "taken" and rule in PICKS_ONE:
        sent = [[array.tobytes() for array in honest_model(i).values()] for i in others]
        assert [array.tobytes() for array in model.values()] in sent
    if fate.kind == "harmless":
        for array in model.values():
            assert np.abs(array - 1).max() < 0.1
    if rule == "medoid" and "loss" not in report.metrics:
        # It fears any minority, and of the others every second may lie.
        assert report.dropped == (
            "metric 'loss' dropped: 8 of 9 replies hold it as a number, at least 9 are needed",
        )
        return
    losses = [0.1 * i for i in (others if fate.kind in ("refused", "failed") else all_honest())]
    assert min(losses) <= report.metrics["loss"] <= max(losses)


@pytest.mark.parametrize("case", REFUSED)
def test_before_a_round_was_configured_the_majority_refuses_the_same_replies(federation, case):
    if fate_of(federation, case).kind != "refused":
        return
    strategy = build(federation, "krum")
    replies = [
        (client, content)
        for client, what in all_honest(_5=case).items()
        for content in hostile_contents(federation, client, what)
    ]
    model, _ = federation.deliver(strategy, replies)
    assert [r.client for r in strategy.reports[-1].refused] == [federation.name(HOSTILE)]
    assert_like_the_model(federation, model)


# --- several hostile replies, and few of any kind ---


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("nan", "nan"), ("nan", "wrong-size"), ("garbage", "twice"), ("giant-header", "truncated"),
        ("unknown-serialization", "one-minus-inf"), ("reshaped", "complex"),
    ],
)  # fmt: skip
def test_f_malformed_replies_at_once_are_all_refused_and_the_round_steps(
    federation, rule, first, second
):
    strategy = build(federation, rule)
    model, _ = play(federation, strategy, all_honest(_1=first, _9=second), RULES[rule])
    report = strategy.reports[-1]
    assert [r.client for r in report.refused] == [federation.name(1), federation.name(9)]
    assert report.byzantine == in_force(rule, 2)
    assert report.stepped
    assert_like_the_model(federation, model)
    assert_between(model, range(2, 9))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", ["nan", "reshaped", "garbage", "twice"])
def test_where_all_are_malformed_the_model_stays_and_all_are_named(federation, rule, case):
    t = RULES[rule]
    strategy = build(federation, rule)
    everyone = range(1, N + 1)
    assert play(federation, strategy, dict.fromkeys(everyone, case), t)[0] is None
    report = strategy.reports[-1]
    assert [r.client for r in report.refused] == [federation.name(i) for i in everyone]
    assert all(r.reason for r in report.refused)
    assert report.note == "no reply was accepted"
    assert not report.stepped
    assert_the_run_goes_on(federation, strategy, t + 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", ["silent", "error"])
def test_where_nobody_sends_a_model_it_stays_and_all_are_named(federation, rule, case):
    strategy = build(federation, rule)
    cases = dict.fromkeys(range(1, N + 1), case)
    assert play(federation, strategy, cases, RULES[rule])[0] is None
    report = strategy.reports[-1]
    missed = report.failed if case == "error" and federation.names_arrays else report.silent
    assert list(missed) == [federation.name(i) for i in cases]
    assert len(report.failed) == (N if case == "error" else 0)
    assert report.note == "no reply was accepted"
    assert_the_run_goes_on(federation, strategy, RULES[rule] + 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("heard", [1, 2, 3, 6])
def test_with_too_few_replies_a_round_steps_only_where_the_rule_still_bears_a_liar(
    federation, rule, heard
):
    t = RULES[rule]
    strategy = build(federation, rule)
    cases = {i: "honest" if i <= heard else "silent" for i in range(1, N + 1)}
    model, _ = play(federation, strategy, cases, t)
    report = strategy.reports[-1]
    assert report.silent == tuple(federation.name(i) for i in range(heard + 1, N + 1))
    if rule == "average" or (rule == "medoid" and heard >= 3):
        assert report.stepped
        assert_between(model, range(1, heard + 1))
    else:
        assert model is None
        assert f"got n={heard}, f={1 if rule == 'medoid' else F}" in report.note
    assert_the_run_goes_on(federation, strategy, t + 1)


def assert_the_run_goes_on(federation, strategy, t):
    model, _ = play(federation, strategy, all_honest(), t)
    assert strategy.reports[-1].stepped
    assert_like_the_model(federation, model)
    assert_between(model, range(1, N + 1))


# --- any mixture, in any order ---

CASES = st.one_of(st.just("honest"), st.sampled_from(["honest", "silent", *FATES]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(CASES, min_size=2, max_size=12),
    st.sampled_from(sorted(RULES)),
    st.integers(0, 3),
    st.sampled_from(["skip", "degrade"]),
    st.randoms(use_true_random=False),
)
def test_any_mixture_of_replies_gives_the_same_round_in_any_order(
    federation, cases, rule, f, on_infeasible, order
):
    by_client = dict(enumerate(cases, 1))
    outcomes = []
    for shuffled in (None, order):
        strategy = build(federation, rule, f, on_infeasible=on_infeasible)
        model, metrics = play(federation, strategy, by_client, RULES[rule], shuffled)
        report = replace(strategy.reports[-1], seconds={})
        if not federation.names_arrays:  # nameless failures are numbered as they come
            report = replace(report, failed=sorted(report.failed.values()))
        outcomes.append((bytes_of(model), report, metrics))
        if model is not None:
            assert_like_the_model(federation, model)
        answered = {*report.received, *(r.client for r in report.refused)}
        known = answered | set(report.silent)
        known |= set(report.failed) if federation.names_arrays else set()
        assert known == {federation.name(i) for i in by_client}
    assert outcomes[0] == outcomes[1]
