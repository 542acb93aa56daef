from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

from flwr_krum.kernel import threads


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


def test_blas_is_asked_once_for_one_thread_within_one_thread(monkeypatch):
    asked = []

    class Pools:
        @contextmanager
        def limit(self, **how):
            asked.append(how)
            yield

    monkeypatch.setattr(threads, "_threadpools", Pools)
    for _ in range(2):
        with threads.one_blas_thread(), threads.one_blas_thread():
            pass
        with pytest.raises(ZeroDivisionError), threads.one_blas_thread():
            1 / 0  # noqa: B018
    assert asked == [{"limits": 1, "user_api": "blas"}] * 4
    other = threading.Thread(target=lambda: threads.one_blas_thread().__enter__())
    with threads.one_blas_thread():
        other.start()
        other.join()
    assert len(asked) == 6
