import importlib
import inspect
import pkgutil
import re

import pytest

from flwr_krum import rules
from flwr_krum.rules import RULES, Average, Krum, Medoid, MultiKrum, OneMinusPKrum, Rule
from flwr_krum.rules.written import parse_rule, written


def test_every_rule_of_the_package_has_one_name():
    modules = [
        importlib.import_module(f"{rules.__name__}.{module.name}")
        for module in pkgutil.iter_modules(rules.__path__)
    ]
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Rule) and not inspect.isabstract(kind)
    }
    assert len(kinds) >= 5
    assert kinds == set(RULES.values())
    assert len(RULES) == len(kinds)
    assert all(getattr(rules, kind.__name__) is kind for kind in kinds)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("average", Average()),
        ("krum", Krum(6)),
        ("krum(f=2)", Krum(2)),
        ("krum(2, strict=false)", Krum(2, strict=False)),
        ("multi-krum(m=4)", MultiKrum(6, 4)),
        ("medoid", Medoid()),
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
        ("krum(g=1)", "krum: got an unexpected keyword argument 'g'; it takes f, strict=True"),
        ("krum(f=-1)", "rule is 'krum(f=-1)': krum: f must be a whole number >= 0, got -1"),
        ("krum(f=two)", "krum: f must be a whole number >= 0, got 'two'"),
        ("1-p-krum(p=2)", "1-p-krum: p must be a probability in [0, 1], got 2"),
        ("os:getcwd", "os:getcwd is no subclass of flwr_krum.rules.Rule"),
        ("json:JSONDecoder", "json:JSONDecoder is no subclass of flwr_krum.rules.Rule"),
        ("flwr_krum.rules:Rule", "Can't instantiate abstract class Rule"),
        ("krum | average", "rule is 'krum | average': "),
        (5, "rule is 5: expected a text"),
    ],
)
def test_a_wrong_text_is_answered_in_one_sentence_with_what_is_legal(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_rule(text, f=6)
    assert "\n" not in str(caught.value)


def test_without_a_runs_f_a_rule_that_needs_one_says_so():
    with pytest.raises(ValueError, match="krum: missing a required argument: 'f'; it takes f"):
        parse_rule("krum")
