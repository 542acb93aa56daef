"""The search for the worst case on small rounds: what it sends, and what it says of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import worst
from benchmarks.worst import ATTACKS, Found, at_random, field_of, page, rules_of, search, table_of
from flwr_krum.rules import RULES, Krum, Medoid


@pytest.mark.parametrize("dtype", worst.DTYPES)
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_sends_finite_rows_of_the_models_dtype(name, dtype):
    field = field_of(12, 4, 1000, dtype)
    lies = ATTACKS[name](field, 4, np.random.default_rng(0))
    assert (lies.shape, lies.dtype) == ((4, 1000), np.dtype(dtype))
    assert np.isfinite(lies).all()


def test_random_attacks_are_repeated_by_their_seed_and_finite():
    field = field_of(12, 4, 1000, "float32")
    for seed in range(50):
        first, again = (at_random(field, 4, np.random.default_rng(seed)) for _ in range(2))
        assert np.isfinite(first).all()
        assert np.array_equal(first, again)


def test_nobody_trains_the_idle_columns():
    field = field_of(12, 4, 1000, "float64")
    assert not field.honest[:, field.idle :].any()
    assert (field.honest[:, : field.idle] != field.model[: field.idle]).all()


@pytest.mark.parametrize("name", ["Walsh signs", "idle columns"])
def test_liars_tie_exactly(name):
    """Each of them is as far from every honest row and from every other liar as the next one."""
    field = field_of(12, 4, 4096, "float64")
    lies = ATTACKS[name](field, 4, np.random.default_rng(0))
    apart = {float(((a - b) ** 2).sum()) for i, a in enumerate(lies) for b in lies[:i]}
    assert len(apart) == 1


@pytest.mark.timed
def test_no_rule_takes_longer_than_the_bound_on_a_small_round():
    found = search(12, 2000, "float64", tuple(RULES), 1, tell=lambda _: None)
    assert [x.rule for x in found] == [name for name, _ in rules_of(12)]
    for x in found:
        assert 0.0 < x.seconds <= x.bound, x


def test_the_rules_bear_the_liars_that_they_are_sent():
    for n in (20, 50, 100):
        for name, rule in rules_of(n):
            rule.check(n)
            assert rule.f == 0 or n - 2 * rule.f > 0, name


def test_the_page_says_what_is_within_the_bound_and_what_is_undecided():
    found = [
        Found("krum", 8, "faint", 0.2, 0.1, "undecided: the scores"),
        Found("medoid", 8, "giants", 0.5, 0.1, ""),
    ]
    text = page([table_of(20, 1_000_000, "float32", found)], {"processor": "an abacus"})
    assert "| krum, f = 8 | faint | 0.100 | 0.200 | 0.400 | yes | undecided |" in text
    assert "| medoid, f = 8 | giants | 0.100 | 0.500 | 0.400 | **no** |  |" in text
    assert "- processor: an abacus" in text


def test_a_round_that_rounding_decided_is_told(monkeypatch):
    numba_exact = pytest.importorskip("flwr_krum.kernel.numba_exact")
    monkeypatch.setattr(numba_exact, "_MOST_WINDOWS", 0)
    monkeypatch.setattr(numba_exact, "_SHARE_OF_ROUND", 10**12)
    field = field_of(12, 4, 4000, "float32")
    lies = ATTACKS["Walsh signs"](field, 4, np.random.default_rng(0))
    for rule in (Krum(4), Medoid()):
        assert worst.seconds_of(rule, field, lies)[1].startswith("undecided")
