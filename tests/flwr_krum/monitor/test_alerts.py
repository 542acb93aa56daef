"""Alerts are told when something begins, once, and hold no text of a client's making."""

import pytest

from flwr_krum.boundary.replies import Refused
from flwr_krum.in_force import f_in_force
from flwr_krum.monitor import alerts
from flwr_krum.monitor.alerts import Watch
from flwr_krum.report import RoundReport
from flwr_krum.rules import Krum


def report(t, refused=(), received=(1, 2, 3), needed=1, stepped=True, **more):
    reasons = tuple(Refused(client, "<!channel> made up") for client in refused)
    return RoundReport(
        t, "r", 1, received=received, refused=reasons, needed=needed, stepped=stepped, **more
    )


def told(reports, refusals=2):
    watch = Watch(refusals)
    return [(a.round, a.alert, a.node) for r in reports for a in watch.see(r)]


def test_a_node_is_told_of_after_k_refusals_in_a_row_and_once():
    assert told(report(t, refused=["a"]) for t in range(1, 6)) == [(2, "refused in a row", "a")]


def test_an_accepted_reply_ends_a_row_and_silence_does_not():
    rounds = [
        report(1, refused=["a", "b"]),
        report(2, received=(1, 2, "a"), silent=("b",)),
        report(3, refused=["a", "b"]),
        report(4, refused=["a"]),
    ]
    assert told(rounds) == [(3, "refused in a row", "b"), (4, "refused in a row", "a")]


def test_a_node_that_is_refused_twice_in_a_round_is_refused_once():
    assert told([report(1, refused=["a", "a"])]) == []


def test_a_state_is_told_of_when_it_begins_and_again_after_it_has_ended():
    kept = {"stepped": False, "note": "too few"}
    rounds = [report(1, **kept), report(2, **kept), report(3), report(4, **kept)]
    assert told(rounds) == [(1, "model kept", ""), (4, "model kept", "")]


def test_slack_is_told_of_where_it_is_nothing():
    rounds = [report(1, needed=2), report(2, needed=3), report(3, needed=None)]
    assert told(rounds) == [(2, "no slack", "")]


@pytest.mark.parametrize(("refused", "exceeded"), [(1, False), (2, False), (3, True)])
def test_f_is_exceeded_where_more_are_refused(refused, exceeded):
    f, basis = f_in_force(Krum(2), 9, refused, 9 + refused)
    lies = range(10, 10 + refused)
    (*_, last) = told([report(1, refused=lies, basis=basis)]) or [(0, "nothing", "")]
    assert (last[1] == "f exceeded") == exceeded
    assert f <= 2


def test_no_text_that_a_client_made_up_is_in_an_alert():
    begun = [
        alert
        for t in (1, 2)
        for alert in Watch(1).see(report(t, refused=["evil\n\u202e"], stepped=False, note="a\nb"))
    ]
    assert len(begun) == 4
    for alert in begun:
        assert "made up" not in alert.text
        assert alert.text.isprintable()
        assert alert.node.isprintable()


def test_names_that_are_made_up_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(alerts, "MOST_NODES", 3)
    watch = Watch(5)
    for t in range(50):
        watch.see(report(t, refused=[f"made up {t}"]))
    assert len(watch._in_a_row) == 3
