from __future__ import annotations

import threading
import time

import pytest

from flwr_krum.kernel import threads
from flwr_krum.kernel.clock import stage, timed


def test_the_time_of_a_stage_is_its_own_without_the_stages_within():
    with timed() as clock:
        with stage("rule"):
            time.sleep(0.01)
            with stage("geometry"):
                time.sleep(0.05)
        with stage("geometry"):
            time.sleep(0.05)
    assert clock.seconds["geometry"] >= 0.1
    assert 0.01 <= clock.seconds["rule"] < 0.05


def test_a_stage_that_fails_is_timed_and_outside_of_a_round_nothing_is():
    with stage("rule"):
        pass
    with timed() as clock:
        with pytest.raises(ZeroDivisionError), stage("check"):
            raise ZeroDivisionError
        with stage("rule"):
            pass
    assert list(clock.seconds) == ["check", "rule"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks_whoever_is_first(count, monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: count)
    seen = set()

    def work(task):
        seen.add(threading.get_ident())
        time.sleep(0.002 * (5 - task))
        return task * task

    assert list(threads.spread(work, range(5))) == [0, 1, 4, 9, 16]
    assert len(seen) <= count
    assert (threading.get_ident() in seen) == (count == 1)


def test_an_error_in_a_task_is_raised(monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        list(threads.spread(lambda x: 1 / x, [1, 0, 2]))
