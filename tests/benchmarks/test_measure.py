"""The clock runs everybody in turns, and sees their memory."""

import os
import time

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from benchmarks.measure import Patience, Samples, in_turns, pinned

MEGABYTE = 1_000_000
BRIEF = Patience(seconds=0.0, most=5)


def test_runs_fit_the_patience():
    patience = Patience(seconds=2.0, most=15, twice=12.0)
    assert patience.runs(0.01) == 15
    assert patience.runs(0.5) == 4
    assert patience.runs(0.99) == 3
    assert patience.runs(1.5) == 1  # besides the first, which counts
    assert patience.runs(10.0) == 1
    assert patience.runs(13.0) == 0


def test_everybody_runs_in_every_turn():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    samples = in_turns(calls, BRIEF)
    assert order[:3] == ["a", "b", "c"]  # the first runs, for memory
    turns = [order[i : i + 3] for i in range(3, len(order), 3)]
    assert len(turns) == 3
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert all(len(s.cpu) == len(s.wall) == 3 for s in samples.values())


def test_waiting_costs_wall_time_and_no_processor_time():
    def work():
        return sum(range(1_000_000))

    samples = in_turns({"wait": lambda: time.sleep(0.05), "work": work}, BRIEF)
    assert min(samples["wait"].wall) >= 0.05
    assert np.median(samples["wait"].cpu) < 0.02
    assert np.median(samples["work"].cpu) > 0.002


def test_memory_that_a_call_gave_back_is_seen_and_that_of_others_is_not():
    def take(megabytes):
        return lambda: float(np.ones(megabytes * MEGABYTE, np.uint8).sum())

    samples = in_turns({"much": take(80), "little": take(8)}, BRIEF)
    if samples["much"].extra is None:
        pytest.skip("this kernel does not let a process reset its memory peak")
    assert 75 * MEGABYTE < samples["much"].extra < 95 * MEGABYTE
    assert 6 * MEGABYTE < samples["little"].extra < 20 * MEGABYTE


def test_the_first_result_is_inspected():
    samples = in_turns({"a": lambda: 3, "b": lambda: 4}, BRIEF, lambda name, r: f"{name}{r}")
    assert [s.answer for s in samples.values()] == ["a3", "b4"]


def test_an_error_is_reported_unless_it_is_ours():
    def fail():
        raise RuntimeError("input tensor is too large\nsecond line")

    samples = in_turns({"theirs": fail, "ours": lambda: 1}, BRIEF)
    assert samples["theirs"] == Samples(problem="RuntimeError: input tensor is too large")
    assert len(samples["ours"].cpu) == 3
    with pytest.raises(RuntimeError, match="too large"):
        in_turns({"theirs": lambda: 1, "ours": fail}, BRIEF, must=("ours",))


def test_pinning_holds_all_to_one_core_and_lets_go_again():
    def state():
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        return os.sched_getaffinity(0), torch.get_num_threads(), blas

    before = state()
    with pinned(1):
        cores, torch_threads, blas = state()
        assert (len(cores), torch_threads) == (1, 1)
        assert blas
        assert set(blas) == {1}
    assert state() == before
