"""How long an exchange lasts, and what of that is the server's own doing."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace

import pytest

from flwr_krum.boundary import exchange as module
from flwr_krum.boundary.exchange import Exchange, Look
from flwr_krum.boundary.questions import Arrivals


class Closing(Arrivals):
    """Notes whose quorum closes the exchange after ten seconds."""

    close = 10.0


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until a test sets it."""
    at = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: at.now))
    return at


def test_a_look_counts_the_seconds_for_which_it_is_held_back_and_no_others(clock):
    look = Look(Event())
    clock.now += 1.0
    assert look.seconds == 0.0
    with look.held_back():
        clock.now += 2.0
        assert look.seconds == 2.0
    clock.now += 10.0
    with look.held_back():
        clock.now += 3.0
        assert look.seconds == 5.0
    clock.now += 10.0
    assert look.seconds == 5.0


def test_what_is_found_has_the_time_since_the_beginning_less_what_the_server_held_back(clock):
    exchange = Exchange(Arrivals(), clock.now, 60.0)
    clock.now += 1.0
    with exchange.look() as look:
        with look.held_back():
            clock.now += 4.0
        clock.now += 2.0
        exchange.tell("a", None, look)
    assert list(exchange.found) == [("a", None, 3.0)]


def test_a_close_is_put_off_by_the_longest_look_that_is_held_back_while_that_goes_on(clock):
    exchange = Exchange(Closing(), clock.now, 60.0)
    assert exchange.left == 10.0
    with exchange.look() as look, exchange.look():
        assert exchange.left == 10.0
        with look.held_back():
            clock.now += 7.0
            assert exchange.left == 10.0
        clock.now += 1.0
        assert exchange.left == 9.0
    assert exchange.left == 2.0
    clock.now += 3.0
    assert exchange.left == 0.0


def test_nothing_puts_off_the_deadline(clock):
    exchange = Exchange(Closing(), clock.now, 12.0)
    with exchange.look() as look, look.held_back():
        clock.now += 11.0
        assert exchange.left == 1.0
        clock.now += 11.0
        assert exchange.left == 0.0
