"""Who owes a reply, and until when."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace

import pytest
from flwr.app import Message, RecordDict

from flwr_krum.boundary import debts as module
from flwr_krum.boundary.crew import Crew
from flwr_krum.boundary.debts import Debts


@pytest.fixture
def over():
    """Is set in the end, so that no thread of a test outlives it."""
    event = Event()
    yield event
    event.set()


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until a test sets it."""
    at = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: at.now))
    return at


def asked(node, ttl):
    return Message(RecordDict(), node, "train", ttl=ttl)


def test_a_debt_is_forgotten_when_its_message_has_expired_and_no_earlier(over, clock):
    debts = Debts(Crew(), lambda *_: False)
    debts.add({"a": asked(10, 5.0), "b": asked(11, 50.0)})
    clock.now += 5.0
    assert debts.debtors(over, 60.0, ()) == {10, 11}
    clock.now += 1.0
    assert debts.debtors(over, 60.0, ()) == {11}


def test_what_is_there_is_dropped_and_settles_nothing_else(over):
    debts = Debts(Crew(), lambda id_, _: id_ == "a" and (debts.settle(id_), True)[1])
    debts.add({"a": asked(10, 50.0), "b": asked(11, 50.0)})
    assert debts.debtors(over, 60.0, ()) == {11}
    debts.settle("a")  # a second time does nothing


def test_a_reply_that_a_thread_waits_for_already_is_not_looked_for_and_still_owed(over):
    def never(*_):
        raise AssertionError("somebody else waits for it")

    debts = Debts(Crew(), never)
    debts.add({"a": asked(10, 50.0)})
    assert debts.debtors(over, 60.0, {"a"}) == {10}
