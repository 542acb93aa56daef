import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass

import numpy as np
import pytest

from flwr_krum import rules
from flwr_krum.rules import (
    MIXINGS,
    RULES,
    Average,
    Chain,
    Krum,
    Medoid,
    Mixing,
    MultiKrum,
    OneMinusPKrum,
    Rule,
)
from flwr_krum.rules.mixing import Mixings
from flwr_krum.rules.written import parse_rule, written

HALVES = f"{__name__}:Halves"


@pytest.mark.parametrize(
    ("names", "base", "without"), [(RULES, Rule, Chain), (MIXINGS, Mixing, None)]
)
def test_every_rule_and_mixing_of_the_package_has_one_name(names, base, without):
    modules = [
        importlib.import_module(f"{rules.__name__}.{module.name}")
        for module in pkgutil.iter_modules(rules.__path__)
    ]
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind)
    } - {without, Mixings}
    assert sorted(kinds, key=id) == sorted(names.values(), key=id)
    assert all(getattr(rules, kind.__name__) is kind for kind in kinds)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("average", Average(6)),
        ("krum", Krum(6)),
        ("krum(f=2)", Krum(2)),
        ("krum(2, strict=false)", Krum(2, strict=False)),
        ("multi-krum(m=4)", MultiKrum(6, 4)),
        ("medoid", Medoid(6)),
        ("1-p-krum", OneMinusPKrum(6, seed=3)),
        ("1-p-krum(p=0.5, seed=1)", OneMinusPKrum(6, p=0.5, seed=1)),
        ("flwr_krum.rules.krum:Krum(f=1)", Krum(1)),
    ],
)
def test_a_text_is_read_as_its_rule_with_the_runs_f_and_seed_where_it_leaves_them_open(text, rule):
    assert parse_rule(text, f=6, seed=3) == rule
    assert parse_rule(written(rule)) == rule


@pytest.mark.parametrize("name", RULES)
def test_every_name_is_read_and_written_as_it_is(name):
    rule = parse_rule(name, f=6)
    assert type(rule) is RULES[name]
    assert written(rule).split("(")[0] == name
    assert parse_rule(written(rule)) == rule


def test_what_is_the_default_is_not_written():
    assert written(MultiKrum(6, 4)) == "multi-krum(f=6, m=4)"
    assert written(OneMinusPKrum(6)) == "1-p-krum(f=6)"


class OwnKrum(Krum):
    """A rule of a user's own."""


def test_a_rule_of_the_users_own_is_written_by_its_place():
    assert written(OwnKrum(2)) == f"{__name__}:OwnKrum(f=2)"


def test_what_has_no_text_is_refused():
    with pytest.raises(ValueError, match=r"<lambda> at 0x.* cannot be written as text"):
        written(OneMinusPKrum(6, p=lambda t: 1 / t))

    class Local(Krum):
        pass

    with pytest.raises(ValueError, match=r"Local cannot be written: it is a class inside a func"):
        written(Local(1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("krumm", "rule is 'krumm': there is no 'krumm', expected one of average, krum, "),
        ("krum(", "rule is 'krum(': 'krum(' is no call"),
        ("krum(g=1)", "krum: got an unexpected keyword argument 'g'; it takes f=None, strict=True"),
        ("krum(strict=maybe)", "krum: strict must be True or False, got 'maybe'"),
        ("krum(f=-1)", "rule is 'krum(f=-1)': krum: f is -1, expected an integer >= 0"),
        ("krum(f=two)", "krum: f is 'two', expected an integer >= 0"),
        ("1-p-krum(p=2)", "1-p-krum: p must be a probability in [0, 1], got 2"),
        ("os:getcwd", "os:getcwd is no subclass of flwr_krum.rules.Rule"),
        ("json:JSONDecoder", "json:JSONDecoder is no subclass of flwr_krum.rules.Rule"),
        ("flwr_krum.rules:Rule", "Can't instantiate abstract class Rule"),
        ("krum | average", "krum is no subclass of flwr_krum.rules.Mixing: what stands before a |"),
        (HALVES, "Halves is no subclass of flwr_krum.rules.Rule: a chain ends with a"),
        (f"{HALVES} | krumm", "there is no 'krumm', expected one of average, krum"),
        (f"{HALVES} | krum(f=2000000)", "the chain can never run"),
        ("krum |", "'' is no call"),
        (5, "rule is 5: expected a text"),
    ],
)
def test_a_wrong_text_is_answered_in_one_sentence_with_what_is_legal(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_rule(text, f=6)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Halves(Mixing):
    """Means of neighbours: half as many rows."""

    way: str = "pairs"

    def matrix(self, geometry, server_round):
        return np.kron(np.eye(self.rows(geometry.n)), [0.5, 0.5])

    def rows(self, n):
        return n // 2


def test_a_chain_is_read_as_python_reads_it_with_the_runs_f_for_every_part():
    chain = parse_rule(f"{HALVES}(way=both) | {HALVES} | multi-krum(m=2)", f=1)
    assert chain == Halves(1, "both") | Halves(1) | MultiKrum(1, 2)
    assert written(chain) == f"{HALVES}(f=1, way=both) | {HALVES}(f=1) | multi-krum(f=1, m=2)"
    assert parse_rule(written(chain)) == chain


def test_a_chain_that_was_read_aggregates():
    values = np.array([[0.0], [2.0], [4.0], [6.0], [8.0], [10.0]])
    assert parse_rule(f"{HALVES} | median", f=1)(values).vector.tolist() == [5.0]
    assert parse_rule("median", f=1)(values[1:]).vector.tolist() == [6.0]


def test_without_a_runs_f_a_rule_tolerates_as_many_as_it_can():
    assert parse_rule("krum") == Krum()
    assert written(Krum()) == "krum"
