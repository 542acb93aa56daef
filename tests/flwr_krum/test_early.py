"""Rounds that begin with the replies that came: the same round, and less to do at its end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flwr_krum.boundary import early
from flwr_krum.boundary.bfloat16 import narrowed
from flwr_krum.boundary.early import Early
from flwr_krum.boundary.filed import Filed
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.template import Template
from flwr_krum.kernel import known, updates
from flwr_krum.kernel.device import MOST_DIFFERENCES
from flwr_krum.kernel.updates import PIECE
from flwr_krum.round import Rounds
from flwr_krum.rules import Median, MultiKrum
from flwr_krum.space import LowRank
from tests.flwr_krum.npy_bytes import npy
from tests.flwr_krum.test_spill import N, OverFit, OverMessages, play, said

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def _also_small(monkeypatch):
    monkeypatch.setattr(early, "PIECE", 0)
    monkeypatch.setattr(updates, "SMALL", 0)


@pytest.fixture
def asked_of_known(monkeypatch):
    """Get, for every time when distances are taken, how many models are known."""
    found, own = [], known.KnownPairs.among
    monkeypatch.setattr(
        known.KnownPairs, "among", lambda self, *a: (place := own(self, *a), found.append(place))[0]
    )
    return found


def replies_of(n):
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((n, 40, 50)).astype(np.float32)
    rows[1] = rows[0]  # a tie
    sent = [{"a": npy(row), "b": npy(row[0])} for row in rows]
    sent[2] = {"a": npy(rows[2].astype(np.float64)), "b": npy(rows[2, 0])}
    sent[3] = {"a": npy(np.full((40, 50), np.nan, np.float32)), "b": npy(rows[3, 0])}
    return [Reply(i, arrays) for i, arrays in enumerate(sent)]


def begun(n, device="cpu:numba", **options):
    """Return rounds of which the first is over: now they begin early."""
    rounds = Rounds(MultiKrum(f=1), device=device, certificate=True, **options)
    model = {"a": np.zeros((40, 50), np.float32), "b": np.zeros(50, np.float32)}
    rounds.begin(model, range(n))
    rounds.finish(1, replies_of(n))
    return rounds, model


def outcome(rounds, model, replies, order, waits=True):
    rounds.begin(model, range(len(replies)))
    assert rounds.early is not None
    for i in order:
        rounds.take(replies[i])
        if waits:
            rounds.early.known()
    found, report = rounds.finish(2, [replies[i] for i in order])
    assert rounds.early is None
    return {key: bytes(data) for key, data in found.items()}, said(report)


def reference(n):
    rounds, model = begun(n)
    rounds.begin(model, range(n))
    found, report = rounds.finish(2, replies_of(n))
    return {key: bytes(data) for key, data in found.items()}, said(report)


@pytest.mark.parametrize("every", [24, pytest.param(1, marks=pytest.mark.slow)])
def test_in_all_orders_of_six_and_at_whatever_time_it_is_the_same_round(every):
    (rounds, model), replies, expected = begun(6), replies_of(6), reference(6)
    for i, order in enumerate(itertools.permutations(range(6))):
        if i % every == 0:
            assert outcome(rounds, model, replies, order, waits=i % 5 > 0) == expected


@pytest.mark.parametrize("orders", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_in_any_order_of_sixteen_it_is_the_same_round(orders):
    (rounds, model), replies, expected = begun(16), replies_of(16), reference(16)
    rng = np.random.default_rng(0)
    for i in range(orders):
        assert outcome(rounds, model, replies, rng.permutation(16), i % 2 == 0) == expected


def test_all_but_the_last_few_are_known_when_the_last_comes(asked_of_known):
    rounds, model = begun(18)
    outcome(rounds, model, replies_of(18), range(18))
    # One sends another dtype, and one a NaN: 12 models and then 4 are taken together; of the 17
    # that are accepted these are known, but for the NaN.
    known = [(int((place >= 0).sum()), len(place)) for place in asked_of_known]
    assert known[:2] == [(12, 16), (15, 17)]


@pytest.mark.parametrize("memory", [0, 110_000])
def test_what_lies_in_a_file_is_read_when_all_are_there(tmp_path, memory, asked_of_known):
    expected = reference(16)
    rounds, model = begun(16, memory=memory, spill=tmp_path)
    rounds.begin(model, range(16))
    spilled = []
    for reply in replies_of(16):
        data = rounds.kept_by._kept(list(reply.arrays.values()), 0, rounds.kept_by._file)
        spilled.append(reply._replace(arrays=dict(zip(reply.arrays, data, strict=True))))
        rounds.take(spilled[-1])
    assert any(isinstance(reply.arrays["a"], Filed) for reply in spilled)
    found, report = rounds.finish(2, spilled)
    assert ({key: bytes(data) for key, data in found.items()}, said(report)) == expected
    assert bool(memory) == any((place >= 0).any() for place in asked_of_known)


def is_as_it_was(api, monkeypatch, taken, **options):
    """Run rounds through an API, and say whether they are the same as those that begin late."""
    own = Early.take
    monkeypatch.setattr(Early, "take", lambda self, reply: (taken.append(reply), own(self, reply)))
    strategy, found, _ = play(api, MultiKrum(2), rounds=3, device="cpu:numba", **options)
    monkeypatch.setattr("flwr_krum.round.is_worth_it", lambda *_: False)
    late, expected, _ = play(api, MultiKrum(2), rounds=3, device="cpu:numba", **options)
    return found == expected and [*map(said, strategy.reports)] == [*map(said, late.reports)]


@pytest.mark.parametrize("api", [OverMessages, OverFit])
@pytest.mark.parametrize("quorum", [None, Quorum(8)])
def test_through_both_apis_rounds_are_the_same_and_all_but_the_first_begin_early(
    api, quorum, monkeypatch, asked_of_known
):
    taken = []
    assert is_as_it_was(api, monkeypatch, taken, quorum=quorum)
    assert len(taken) == 2 * N
    assert max((place >= 0).sum() for place in asked_of_known) >= 4


def no_thread(*_):
    raise RuntimeError("can't start new thread")


def no_memory(_):
    raise MemoryError


@pytest.mark.parametrize(("where", "fails"), [("Crew.do", no_thread), ("known_pairs", no_memory)])
def test_where_nothing_can_be_begun_early_the_round_neither_waits_nor_fails(
    monkeypatch, where, fails
):
    d, rng = PIECE + 1, np.random.default_rng(0)
    begun = Early(Template.of({"w": np.zeros(d, "f4")}), "cpu:numba", 6)
    monkeypatch.setattr(f"flwr_krum.boundary.early.{where}", fails)
    for client in range(6):
        begun.take(Reply(client, {"w": npy(rng.standard_normal(d).astype("f4"))}))
    assert begun._begun > 0
    assert begun.known() is None


NUMBERS = np.random.default_rng(1).standard_normal((9, PIECE // 8 + 1)).astype("f4")
NOT_AS_IT_LIES = {
    "no arrays": None,
    "another key": {"v": npy(NUMBERS)},
    "another shape": {"w": npy(NUMBERS[1:])},
    "another dtype": {"w": npy(NUMBERS.astype("f8"))},
    "bfloat16": {"w": npy(narrowed(NUMBERS))},
    "columns first": {"w": npy(np.asfortranarray(NUMBERS))},
}


@pytest.mark.parametrize("what", NOT_AS_IT_LIES)
def test_replies_that_the_round_will_not_read_as_they_lie_are_passed_over(what):
    begun = Early(Template.of({"w": np.zeros_like(NUMBERS)}), "cpu:numba", 6)
    for client in range(6):
        begun.take(Reply(client, NOT_AS_IT_LIES[what]))
    assert begun._models == []
    for client in range(6):
        begun.take(Reply(client, {"w": npy(NUMBERS + client)}))
    assert len(begun._models) == 6


def test_a_nan_that_no_distance_sees_is_refused_also_where_the_distances_are_known():
    rounds, model = begun(16, distance_keys=["a"])
    replies = replies_of(16)
    replies[5] = Reply(5, {**replies[5].arrays, "b": npy(np.full(50, np.nan, "f4"))})
    rounds.begin(model, range(16))
    for reply in replies:
        rounds.take(reply)
    assert rounds.early.known() is not None
    _, report = rounds.finish(2, replies)
    assert {refused.client: refused.reason for refused in report.refused} == {
        3: "array 'a': holds NaN", 5: "array 'b': holds NaN"
    }  # fmt: skip


@pytest.mark.parametrize("api", [OverMessages, OverFit])
def test_rules_that_compare_no_models_begin_nothing(api, monkeypatch):
    monkeypatch.setattr(Early, "take", lambda *_: pytest.fail("nobody asks for distances"))
    strategy, _, _ = play(api, Median(f=2), rounds=2, device="cpu:numba")
    assert strategy.last_report.stepped


def test_numpy_begins_nothing_early():
    rounds, model = begun(6, "cpu:numpy")
    rounds.begin(model, range(6))
    assert rounds.early is None


@pytest.mark.parametrize(
    ("quorum", "came", "is_begun"),
    [(Quorum(12), 8, False), (Quorum(12), 9, True), (None, 12, False), (None, 13, True)],
)
def test_a_batch_is_three_quarters_of_what_a_quorum_needs_or_else_of_all(quorum, came, is_begun):
    rounds, model = begun(18, quorum=quorum)
    rounds.begin(model, range(18))
    for reply in replies_of(18)[4 : 4 + came]:
        rounds.take(reply)
    assert (rounds.early.known() is not None) == is_begun


def test_a_round_for_which_there_are_too_many_models_knows_none_of_one_that_was_begun_before():
    rounds, model = begun(6)
    rounds.begin(model, range(6))
    assert rounds.early is not None
    rounds.begin(model, range(MOST_DIFFERENCES))
    assert rounds.early is not None
    rounds.begin(model, range(MOST_DIFFERENCES + 1))
    assert rounds.early is None
    rounds.take(replies_of(6)[0])  # and what is taken all the same is passed over


@pytest.mark.parametrize(
    ("model", "options", "is_worth_it"),
    [
        ({"w": np.zeros(2001, "f4")}, {}, True),
        ({"w": np.zeros(2000, "f4")}, {}, False),
        ({"w": np.zeros(2001, "f4"), "v": np.zeros(9, "f4")}, {"distance_keys": ["v"]}, False),
        ({"w": np.append(np.zeros(2001, "f4"), np.float32(np.nan))}, {}, False),
        ({"w": narrowed(np.zeros(2001, "f4"))}, {}, False),
        ({"a": np.zeros((2, 2001), "f4"), "b": np.zeros((3, 2), "f4")},
         {"space": LowRank({"a": "b"})}, False),
    ],
    ids=["large", "small", "small where it is measured", "constants", "bfloat16", "products"],
)  # fmt: skip
def test_large_models_are_begun_early_that_are_compared_as_they_are_sent(
    model, options, is_worth_it, monkeypatch
):
    monkeypatch.setattr(early, "PIECE", 2000)
    template = Template.of(model, None, options.get("distance_keys"), options.get("space"))
    assert early.is_worth_it(template, "cpu:numba", 9) == is_worth_it
