"""Attacks that are not always at work."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_krum.attacks import OnOff, SignFlip
from flwr_krum.attacks.written import parse_attack, written
from tests.flwr_krum.attacks.test_attack import scene


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 6), st.integers(1, 6))
def test_the_rounds_in_which_an_attack_is_at_work(start, rounds, period, duty):
    duty = min(duty, period) if period else duty
    attack = OnOff(start, rounds, period, duty, attack=SignFlip())
    expected = []
    for t in range(start, 40 if rounds == 0 else start + rounds):
        phase = (t - start) % period if period else 0
        if phase < duty:
            expected.append(t)
    assert [t for t in range(1, 40) if attack.is_at_work(t)] == [t for t in expected if t < 40]


def test_an_attack_that_is_not_at_work_sends_honest_updates():
    attack = parse_attack("on-off(start=2, rounds=1) | ipm(factor=3)")
    for t in range(1, 5):
        seen = scene(server_round=t)
        mean = seen.honest.mean(axis=0)
        expected = [-3 * mean] * 2 if t == 2 else seen.own
        np.testing.assert_array_equal(attack.on(seen), expected)


def test_every_other_attack_is_always_at_work():
    assert all(parse_attack("alie").is_at_work(t) for t in (1, 2, 1000))


def test_a_wrapper_is_in_all_else_what_it_wraps():
    flip = parse_attack("on-off | label-flip")
    assert flip.changes_data
    assert flip.knowledge == "own"
    assert flip.poisoned(np.zeros((1, 2)), np.array([0]), 10)[1].tolist() == [9]
    assert parse_attack("on-off | alie").knowledge == "all"
    assert parse_attack("on-off | alie").needs == {"n"}
    assert parse_attack("on-off | mimic(warm_up=3)").needs == {"memory"}
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(2, np.float32))})})
    assert parse_attack("on-off | malformed(fault=no-record)").spoiled(content) == RecordDict()
    unchanged = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(2, np.float32))})})
    assert list(parse_attack("on-off | ipm").spoiled(unchanged)) == ["arrays"]


def test_wrappers_nest():
    attack = parse_attack("on-off(start=3) | on-off(period=2) | sign-flip")
    assert [t for t in range(1, 8) if attack.is_at_work(t)] == [3, 5, 7]
    seen = scene(server_round=4)
    np.testing.assert_array_equal(attack.on(seen), seen.own)
    np.testing.assert_array_equal(attack.on(scene(server_round=5)), -seen.own)


def test_a_wrapped_attack_is_written_as_it_is_read():
    for text in ("on-off | alie", "on-off(start=3, period=4, duty=2) | sign-flip(scale=10)"):
        assert written(parse_attack(text)) == text


def test_a_wrapped_attack_says_what_it_lacks():
    with pytest.raises(ValueError, match="OnOff needs the attackers' own honest updates"):
        parse_attack("on-off(start=2) | ipm").on(scene(own=None, server_round=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on-off", "on-off wraps an attack: write on-off | gaussian"),
        ("on-off(start=0) | ipm", "start is 0, expected an integer >= 1"),
        ("on-off(rounds=-1) | ipm", "rounds is -1, expected an integer >= 0"),
        ("on-off(period=-1) | ipm", "period is -1, expected an integer >= 0"),
        ("on-off(duty=0) | ipm", "duty is 0, expected an integer >= 1"),
        ("on-off(period=2, duty=3) | ipm", "duty is 3, expected at most the period, which is 2"),
    ],
)
def test_an_illegal_parameter_is_named_with_the_legal_ones(text, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        parse_attack(text)
