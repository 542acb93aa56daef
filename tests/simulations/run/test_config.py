import tomllib
from pathlib import Path

import pytest

from flwr_krum.rules import Average, Krum, Medoid, MultiKrum, OneMinusPKrum
from simulations.run.config import RULES, RunConfig, run_config_defaults

ROOT = Path(__file__).parents[3]


def test_flower_run_config_lists_every_key_with_the_default_of_the_code():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["tool"]["flwr"]["app"]["config"] == run_config_defaults()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("average", Average()),
        ("krum", Krum(6)),
        ("multi-krum", MultiKrum(6)),
        ("medoid", Medoid()),
        ("1-p-krum", OneMinusPKrum(6, seed=4)),
    ],
)
def test_each_rule_name_builds_its_rule_with_the_declared_f(config, rule, expected):
    assert config(rule=rule, f=6, seed=4).build_rule() == expected


def test_every_rule_name_is_covered_above():
    assert set(RULES) == {"average", "krum", "multi-krum", "medoid", "1-p-krum"}


def test_m_reaches_multi_krum(config):
    assert config(f=2, m=5).build_rule() == MultiKrum(2, 5)


def test_an_illegal_f_is_refused_before_anything_runs(config):
    with pytest.raises(ValueError, match=r"2f \+ 2 < n, got n=20, f=9.*f <= 8"):
        config(f=9)


def test_strict_false_allows_the_papers_nine_of_twenty(config):
    assert config(f=9, strict=False).build_rule() == MultiKrum(9, strict=False)


def test_only_the_last_f_clients_attack_and_only_if_there_is_an_attack(config):
    assert config(f=6, attack="gaussian").byzantine_clients() == set(range(14, 20))
    assert config(f=6).byzantine_clients() == set()


def test_a_config_survives_the_way_through_flowers_run_config(config):
    complete = config(f=6, attack="gaussian", rule="krum", task="mnist")
    assert RunConfig.from_config(complete.to_config()) == complete


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rule", "krumm", "rule is 'krumm', expected one of"),
        ("api", "grpc", "api is 'grpc', expected one of"),
        ("m", -1, "m is -1, expected an integer >= 0"),
        ("num-server-rounds", 0, "num-server-rounds is 0, expected an integer >= 1"),
        ("evaluate-every", True, "evaluate-every is True, expected an integer >= 0"),
        ("strict", "yes", "strict is 'yes', expected true or false"),
        ("m", 21, "m=21, n=20"),
        ("round-timeout", 0, "round-timeout is 0, expected a finite number > 0"),
        ("round-timeout", float("inf"), "round-timeout is inf, expected a finite number > 0"),
        ("round-timeout", True, "round-timeout is True, expected a finite number > 0"),
        ("round-timeout", "60", "round-timeout is '60', expected a finite number > 0"),
        ("learning-rat", 0.1, r"unknown run config keys \['learning-rat'\]"),
    ],
)
def test_an_illegal_value_is_named_with_what_is_legal(key, value, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_config({key: value})
