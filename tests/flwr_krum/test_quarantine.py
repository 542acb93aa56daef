import numpy as np
import pytest

from flwr_krum.boundary.replies import Refused, Reply
from flwr_krum.journal import read_journal
from flwr_krum.round import Rounds
from flwr_krum.rules import Krum, Medoid
from tests.flwr_krum.npy_bytes import npy

MODEL = {"w": np.zeros(2)}


@pytest.fixture
def play():
    """Play one round: clients named in ``bad`` send NaN, the others send themselves."""

    def play(rounds, t, clients, bad=()):
        left_out = rounds.begin(MODEL, clients)
        asked = [client for client in clients if client not in left_out]
        replies = [
            Reply(c, {"w": npy(np.full(2, np.nan if c in bad else float(c)))}) for c in asked
        ]
        return rounds.finish(t, replies)[1]

    return play


def test_it_is_off_by_default(play):
    rounds = Rounds(Krum(1))
    for t in range(1, 6):
        assert play(rounds, t, range(8), bad=[7]).quarantined == ()


def test_after_k_refusals_a_client_is_left_out_and_named(play):
    rounds = Rounds(Krum(1), quarantine=2)
    reports = [play(rounds, t, range(8), bad=[7]) for t in (1, 2, 3)]
    assert [report.quarantined for report in reports] == [(), (), (7,)]
    assert reports[2].silent == ()
    assert reports[2].refused == ()
    assert "in quarantine: 7" in "\n".join(reports[2].lines())


def test_a_quarantined_client_does_not_lower_f(play):
    # It sends nothing, and with unauthenticated nodes one liar could burn many names.
    rounds = Rounds(Krum(2), quarantine=1)
    assert play(rounds, 1, range(7), bad=[6]).byzantine == 1  # six replies bear one liar
    assert play(rounds, 2, range(8), bad=[6]).byzantine == 2


def test_the_rule_always_keeps_enough_clients_and_the_worst_go_first(play):
    rounds = Rounds(Krum(2), quarantine=1)  # needs 7
    play(rounds, 1, range(9), bad=[8])
    play(rounds, 2, range(9), bad=[6, 7])  # 8 is out by now
    rounds._ledger._quarantine.note("9", [Refused(7, "as if once more")], 6)
    assert play(rounds, 3, range(8), bad=()).quarantined == (7,)
    assert play(rounds, 4, range(7), bad=()).quarantined == ()


def test_a_rule_without_a_bound_keeps_one(play):
    rounds = Rounds(Medoid(), quarantine=1)
    for t, bad in enumerate(([0], [1], [2]), 1):  # none is the reason of most
        rounds.begin(MODEL, range(3))
        play(rounds, t, range(3), bad)
    assert len(play(rounds, 4, range(3)).quarantined) == 2


def test_it_is_remembered_in_the_journal(play, tmp_path):
    play(Rounds(Krum(1), quarantine=1, journal=tmp_path / "j"), 1, range(8), bad=[7])
    resumed = Rounds(Krum(1), quarantine=1, journal=tmp_path / "j", rounds_done=1)
    assert play(resumed, 2, range(8)).quarantined == (7,)
    assert [report.server_round for report in read_journal(tmp_path / "j")] == [1, 2]
    assert [report.server_round for report in resumed.reports] == [1, 2]


@pytest.mark.parametrize("illegal", [0, -1, True, 1.5])
def test_an_illegal_number_of_refusals_is_named(illegal):
    with pytest.raises(ValueError, match=r"quarantine is .*, expected an integer >= 1"):
        Rounds(Krum(1), quarantine=illegal)


# --- a reason that most share ---


def sent_to(rounds, t, wrong, liars=()):
    """Play a round in which some send arrays of another shape each, and liars NaN."""
    left_out = rounds.begin(MODEL, range(9))
    replies = []
    for client in sorted(set(range(9)) - left_out):
        value = np.zeros(3 + client) if client in wrong else np.full(2, float(client))
        value = np.full(2, np.nan) if client in liars else value
        replies.append(Reply(client, {"w": npy(value)}))
    return rounds.finish(t, replies)[1]


@pytest.mark.parametrize("wrong", [range(9), range(5), range(2, 8)])
def test_a_refusal_that_most_replies_share_counts_against_nobody(wrong):
    rounds = Rounds(Krum(1), quarantine=1)
    for t in range(1, 5):
        report = sent_to(rounds, t, wrong)
        assert [refusal.client for refusal in report.refused] == list(wrong)
        assert report.quarantined == ()


def test_another_reason_in_the_same_round_counts():
    rounds = Rounds(Krum(1), quarantine=2)
    reports = [sent_to(rounds, t, range(6), liars=[7]) for t in (1, 2, 3)]
    assert [report.quarantined for report in reports] == [(), (), (7,)]


def test_a_reason_of_fewer_counts():
    rounds = Rounds(Krum(1), quarantine=1)
    sent_to(rounds, 1, range(4))
    assert sent_to(rounds, 2, ()).quarantined == (0, 1, 2, 3)


def test_it_is_the_same_when_a_journal_is_read_again(tmp_path):
    rounds = Rounds(Krum(1), quarantine=1, journal=tmp_path / "j")
    sent_to(rounds, 1, range(6), liars=[7])
    resumed = Rounds(Krum(1), quarantine=1, journal=tmp_path / "j", rounds_done=1)
    assert sent_to(resumed, 2, ()).quarantined == (7,)


def test_clients_that_keep_batch_norm_or_a_mask_are_never_shut_out(federation):
    model = {"w": np.zeros(2), "bn": np.ones(1), "mask": np.array([0.0, -np.inf])}
    strategy = federation.strategy("Krum", 1, quarantine=1)
    for t in range(1, 4):
        asked = federation.configure(strategy, {k: npy(a) for k, a in model.items()}, range(9), t)
        assert len(asked) == 9
        # Without names replies that leave one out cannot be told apart: all are refused, together.
        keys = ("w", "mask")
        contents = [
            (c, federation.content({key: model[key] for key in keys}, 10, {})) for c in asked
        ]
        federation.deliver(strategy, contents, t)
        refusals = 0 if federation.names_arrays else 9
        assert len(strategy.last_report.refused) == refusals
