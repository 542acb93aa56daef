"""A function of the operator's own holds nobody up, whatever it does."""

import copy
import pickle
import threading
import time

import pytest

from flwr_krum import hook as module
from flwr_krum.hook import Hook


def test_it_is_told_everything_in_order_in_another_thread():
    told, threads = [], set()

    def call(value):
        told.append(value)
        threads.add(threading.current_thread())

    hook = Hook(call, "the hook", told.append)
    for value in range(50):
        hook.tell(value)
    assert hook.finish()
    assert told == list(range(50))
    assert len(threads) == 1
    assert threads != {threading.current_thread()}


@pytest.mark.parametrize("error", [ValueError("no\ndisk"), SystemExit("no\ndisk")])
def test_what_it_raises_is_a_sentence_and_the_next_is_told_all_the_same(error):
    said, told = [], []

    def call(value):
        told.append(value)
        raise error

    hook = Hook(call, "the hook", said.append)
    hook.tell(1)
    hook.tell(2)
    assert hook.finish()
    assert told == [1, 2]
    assert said == [f"the hook raises {type(error).__name__}: no\\ndisk"] * 2


@pytest.mark.parametrize("nested", [RuntimeError, SystemExit])
def test_an_error_that_cannot_be_put_into_words_is_named_by_its_type(nested):
    said, told = [], []

    class WordlessError(Exception):
        def __str__(self):
            raise nested

    def call(value):
        told.append(value)
        raise WordlessError

    hook = Hook(call, "the hook", said.append, patience=2.0)
    hook.tell(1)
    hook.tell(2)
    assert hook.finish()
    assert told == [1, 2]
    assert said == ["the hook raises WordlessError"] * 2


def test_one_that_hangs_holds_nobody_up_and_is_told_again_when_it_is_back():
    said, told, go_on = [], [], threading.Event()

    def call(value):
        told.append(value)
        go_on.wait(10)

    hook = Hook(call, "the hook", said.append, patience=0.1)
    began = time.monotonic()
    hook.tell(1)
    time.sleep(0.2)
    hook.tell(2)
    assert time.monotonic() - began < 8.0
    assert said == ["the hook has been busy for 0 s: it is not told of this"]
    assert not hook.finish()
    assert said[1:] == ["the hook is not told of 1 more, or hangs"]
    go_on.set()
    assert hook.finish()
    hook.tell(3)
    assert hook.finish()
    assert told == [1, 3]


def test_only_so_much_waits_for_it(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 2)
    said, go_on = [], threading.Event()
    hook = Hook(lambda _: go_on.wait(10), "the hook", said.append)
    for value in range(5):
        hook.tell(value)
    assert said[-1] == "the hook is 2 calls behind: it is not told of this"
    assert 2 <= len(said) <= 3  # the first may be out of the queue already
    go_on.set()
    assert hook.finish()


def test_a_copy_has_a_thread_of_its_own():
    hook = Hook(print, "the hook", print)
    hook.tell("")
    assert hook.finish()
    for other in (copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))):
        assert other._waiting is None
        other.tell("")
        assert other.finish()
