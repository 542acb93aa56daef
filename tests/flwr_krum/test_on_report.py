"""The operator's own function is told of every round, and touches none."""

import threading
import time
from logging import WARNING

import numpy as np
import pytest

from flwr_krum.journal import read_journal

MODEL = [np.zeros(3, np.float32)]


def reply(node):
    return [np.full(3, 1.0 + 0.001 * node, np.float32)]


def rounds(federation, count=2, **options):
    """Play some rounds of seven nodes; return the strategy, its models and the seconds."""
    strategy = federation.strategy("Krum", 2, **options)
    began, models = time.monotonic(), []
    for t in range(1, 1 + count):
        federation.configure(strategy, MODEL, range(7), t)
        models.append(federation.aggregate(strategy, {i: reply(i) for i in range(7)}, t)[0])
    return strategy, np.array(models), time.monotonic() - began


def test_it_is_told_of_each_report_when_it_is_in_the_journal(federation, tmp_path):
    told, written = [], []

    def on_report(report):
        told.append(report)
        written.append(report in read_journal(tmp_path / "j"))

    strategy, *_ = rounds(federation, on_report=on_report, journal=tmp_path / "j")
    assert strategy._rounds._ledger._hook.finish()
    assert told == strategy.reports
    assert written == [True, True]


def test_what_it_does_to_a_report_stays_with_it(federation):
    def on_report(report):
        report.scores.clear()
        vars(report)["stepped"] = False

    strategy, *_ = rounds(federation, on_report=on_report)
    assert strategy._rounds._ledger._hook.finish()
    assert all(len(report.scores) == 7 and report.stepped for report in strategy.reports)


def test_one_that_fails_is_logged_and_the_rounds_are_those_without_it(federation, caplog):
    def on_report(report):
        raise OSError("no\nnetwork")

    strategy, models, _ = rounds(federation, on_report=on_report)
    assert strategy._rounds._ledger._hook.finish()
    np.testing.assert_array_equal(models, rounds(federation)[1])
    said = [r.getMessage() for r in caplog.records if "on_report" in r.getMessage()]
    assert said == ["on_report raises OSError: no\\nnetwork"] * 2
    assert all(r.levelno == WARNING for r in caplog.records if "on_report" in r.getMessage())


def test_one_that_hangs_holds_no_round_up(federation):
    go_on = threading.Event()
    strategy, models, seconds = rounds(federation, on_report=lambda _: go_on.wait(20))
    assert seconds < 10
    assert [report.stepped for report in strategy.reports] == [True, True]
    go_on.set()
    assert strategy._rounds._ledger._hook.finish()
    np.testing.assert_array_equal(models, rounds(federation)[1])


def test_what_is_no_function_is_named(federation):
    with pytest.raises(TypeError, match="on_report must be a function of a report, got 'mail'"):
        federation.strategy("Krum", 2, on_report="mail")
