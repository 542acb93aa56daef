import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from clients import Settings
from flwr_krum.optimizers import FedAdam
from flwr_krum.rules import RULES, Average, Krum, Medoid, MultiKrum, OneMinusPKrum
from simulations.run.config import RunConfig, run_config_defaults, run_settings

ROOT = Path(__file__).parents[3]


def test_flower_run_config_lists_every_key_with_the_default_of_the_code():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["tool"]["flwr"]["app"]["config"] == run_config_defaults()


def test_every_setting_of_a_run_is_described_once():
    names = [field.name for kind in (Settings, RunConfig) for field in fields(kind)]
    assert list(run_settings()) == [name for name in names if name != "settings"]
    assert all(what.help.endswith(".") for what in run_settings().values())


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("average", Average(6)),
        ("krum", Krum(6)),
        ("multi-krum", MultiKrum(6)),
        ("medoid", Medoid(6)),
        ("1-p-krum", OneMinusPKrum(6, seed=4)),
        ("1-p-krum(p=0.5, seed=1)", OneMinusPKrum(6, p=0.5, seed=1)),
        ("multi-krum(m=3, f=2)", MultiKrum(2, 3)),
        ("krum(f=9, strict=false)", Krum(9, strict=False)),
    ],
)
def test_a_rule_is_read_with_the_declared_f_and_the_runs_seed(config, rule, expected):
    assert config(rule=rule, f=6, seed=4).build_rule() == expected


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_that_has_a_name_can_be_run(config, rule):
    assert isinstance(config(rule=rule, f=2).build_rule(), RULES[rule])


def test_an_optimizer_is_read_as_it_is_written_and_checked_before_anything_runs(config):
    assert config().build_optimizer() is None
    made = config(server_optimizer="fedadam(eta=0.01)")
    assert made.build_optimizer() == FedAdam(eta=0.01)
    assert RunConfig.from_config(made.to_config()) == made
    with pytest.raises(ValueError, match="'fedsgd': there is no 'fedsgd', expected one of fedavgm"):
        config(server_optimizer="fedsgd")
    with pytest.raises(ValueError, match="server_learning_rate and server_optimizer are both set"):
        config(server_optimizer="fedadam", server_learning_rate=0.5)


def test_the_old_key_m_reaches_multi_krum_unless_the_rule_says_it_itself(config):
    assert config(f=2, m=5).build_rule() == MultiKrum(2, 5)
    assert config(f=2, m=5, rule="multi-krum(m=4)").build_rule() == MultiKrum(2, 4)
    assert config(f=2, m=5, rule="krum").build_rule() == Krum(2)


def test_a_rule_in_a_file_is_found_from_any_folder_and_a_record_outlives_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text("from flwr_krum.rules import Krum\nclass Mine(Krum): pass\n")
    record = RunConfig.from_config({"rule": "mine.py:Mine( f = 2 )"}).to_config()
    assert record["rule"] == f"{path}:Mine(f=2)"
    assert type(RunConfig.from_config(record).build_rule()).__name__ == "Mine"

    path.unlink()
    del sys.modules[str(path)]
    assert RunConfig.from_record(record).rule == record["rule"]
    with pytest.raises(ValueError, match=f"there is no file {path}"):
        RunConfig.from_config(record)


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
        ("rule", "krumm", "rule is 'krumm': there is no 'krumm', expected one of average, krum,"),
        (
            "rule",
            "krum(g=1)",
            "got an unexpected keyword argument 'g'; it takes f=None, strict=True",
        ),
        ("rule", "", "rule is '', expected a rule such as 'multi-krum"),
        ("rule", 3, "rule is 3, expected a rule such as 'multi-krum"),
        ("rule", "krum(f=9)", r"2f \+ 2 < n, got n=20, f=9"),
        ("api", "grpc", "api is 'grpc', expected 'message' or 'fit'"),
        ("run-dir", "", "run-dir is '', expected the path of a folder"),
        ("tensorboard", 1, "tensorboard is 1, expected the path of a folder"),
        ("server-learning-rate", -0.5, "server-learning-rate is -0.5, expected a finite number"),
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
