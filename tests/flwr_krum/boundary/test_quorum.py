"""When a quorum closes a round: a function of when sound replies came, and of nothing else."""

import math
import random

import pytest
from flwr.app import Error, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from flwr_krum.boundary.questions import Arrivals
from flwr_krum.boundary.quorum import Quorum, as_quorum

TIMES = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=30)


def by_hand(times, least, grace, wait):
    """Work the formula of `Quorum` out by counting, without sorting."""
    if len(times) < least:
        return math.inf

    def place(k):  # the smallest time of which at least k are no larger
        return min(t for t in times if sum(other <= t for other in times) >= k)

    return max(place(least) + grace * place(least // 2 + 1), wait)


@given(TIMES, st.integers(1, 30), st.floats(0.0, 3.0), st.floats(0.0, 50.0))
def test_it_closes_a_share_of_the_median_arrival_after_the_quorum_and_not_before_the_least_wait(
    times, least, grace, wait
):
    assert Quorum(least, grace, wait).closes(times) == by_hand(times, least, grace, wait)


@given(TIMES, st.integers(1, 30), st.randoms())
def test_the_order_in_which_arrivals_are_told_changes_nothing(times, least, rng):
    shuffled = random.Random(rng.random()).sample(times, len(times))
    assert Quorum(least).closes(shuffled) == Quorum(least).closes(times)


@given(TIMES, st.integers(1, 30), st.floats(0.0, 1e4))
def test_what_comes_after_the_quorum_does_not_put_the_close_off(times, least, more):
    before = Quorum(least, wait=0.0).closes(times)
    if before < math.inf:
        after = Quorum(least, wait=0.0).closes([*times, max(times) + more])
        assert after == before


@given(st.integers(1, 8), st.lists(st.floats(0.1, 100.0), min_size=11, max_size=20))
def test_f_nodes_that_answer_at_once_leave_a_grace_of_the_second_honest_arrival(f, honest):
    least = 2 * f + 3
    times = [0.0] * f + honest
    if len(times) >= least:
        close = Quorum(least, grace=0.5, wait=0.0).closes(times)
        reached = sorted(honest)[least - f - 1]
        assert close >= reached + 0.5 * sorted(honest)[1]


def test_the_grace_and_the_least_wait_have_the_documented_defaults():
    assert Quorum(11) == Quorum(11, 0.5, 5.0) == as_quorum(11)
    assert str(Quorum(11)) == "11 replies, and 0.5 times their median arrival more, not before 5 s"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Quorum(0), "least is 0, expected an integer >= 1"),
        (lambda: Quorum(2.5), "least is 2.5, expected an integer >= 1"),
        (lambda: Quorum(5, grace=-0.1), "grace is -0.1, expected a finite number >= 0"),
        (lambda: Quorum(5, wait=math.inf), "wait is inf, expected a finite number >= 0"),
        (lambda: as_quorum(0), "quorum is 0, expected an integer >= 1"),
    ],
)
def test_an_illegal_number_is_refused_with_the_legal_ones(made, told):
    with pytest.raises(ValueError, match=told):
        made()


@pytest.mark.parametrize("value", [True, 5.0, "11"])
def test_what_is_no_quorum_is_refused(value):
    with pytest.raises(TypeError, match="expected a number of replies, or Quorum"):
        as_quorum(value)


# --- which replies count ---


def replies(*nodes, error=False):
    for node in nodes:
        asked = Message(RecordDict(), node, "train")
        content = {"error": Error(1, "crashed")} if error else {"content": RecordDict()}
        yield node, Message(**content, reply_to=asked)


def noted(arrivals, *pairs):
    for second, (node, reply) in enumerate(pairs, 1):
        arrivals.note(node, reply, float(second))
    return arrivals


def test_errors_never_count():
    arrivals = Arrivals(Quorum(3, wait=0.0))
    noted(arrivals, *replies(1, 2), *replies(3, 4, 5, error=True))
    assert arrivals.close == math.inf
    assert arrivals.at == {1: 1.0, 2: 2.0}
    arrivals.note(6, next(replies(6))[1], 9.0)
    assert arrivals.close == 9.0 + 0.5 * 2.0


def test_only_replies_that_a_round_takes_in_together_are_a_quorum():
    kinds = {1: "a", 2: "b", 3: "a", 4: None, 5: "b", 6: "a"}
    arrivals = Arrivals(Quorum(3, wait=0.0), lambda reply: kinds[reply.metadata.src_node_id])
    noted(arrivals, *replies(1, 2, 3, 4, 5))
    assert arrivals.close == math.inf
    arrivals.note(6, next(replies(6))[1], 8.0)
    assert arrivals.close == 8.0 + 0.5 * 3.0
    assert list(arrivals.at) == [1, 2, 3, 4, 5, 6]


def test_without_a_quorum_nothing_closes_and_no_reply_is_looked_at():
    arrivals = noted(Arrivals(None, None), *replies(1, 2, 3))
    assert arrivals.close == math.inf
