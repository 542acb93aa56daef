from __future__ import annotations

import time

import pytest

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
