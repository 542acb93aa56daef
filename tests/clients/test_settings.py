import re

import pytest

from clients import Settings


def test_defaults_are_the_supplements_spambase_experiment():
    settings = Settings.from_config({})
    assert settings == Settings()
    assert (settings.task, settings.model, settings.num_clients) == ("spambase", "mlp", 20)
    assert (settings.batch_size, settings.learning_rate, settings.local_steps) == (3, 0.05, 1)
    assert (settings.attack, settings.f, settings.gaussian_variance) == ("none", 0, 200.0)
    assert (settings.omniscient_factor, settings.omniscient_examples) == (1e4, 0)
    assert (settings.schedule, settings.decay_rounds, settings.seed) == ("constant", 500, 0)
    assert (settings.data_dir, settings.download) == ("data", False)


def test_each_task_brings_its_own_defaults():
    mnist = Settings(task="mnist")
    assert (mnist.model, mnist.batch_size, mnist.learning_rate) == ("convnet", 10, 0.1)
    assert Settings(task="mnist", model="mlp").model == "mlp"


def test_a_value_given_wins_over_the_tasks_default():
    settings = Settings.from_config({"task": "mnist", "batch-size": 40, "learning-rate": 0.3})
    assert (settings.batch_size, settings.learning_rate) == (40, 0.3)


def test_run_config_keys_are_kebab_case_and_the_servers_own_are_ignored():
    settings = Settings.from_config(
        {"num-clients": 7, "omniscient-factor": 100, "rule": "krum", "batch_size": 99}
    )
    assert (settings.num_clients, settings.omniscient_factor, settings.batch_size) == (7, 100, 3)


@pytest.mark.parametrize(("rounds", "over"), [(0, []), (1, [2, 3, 4]), (3, [4])])
def test_an_attack_lasts_for_its_rounds_or_for_ever(rounds, over):
    settings = Settings(attack="gaussian", f=1, attack_rounds=rounds)
    assert [t for t in (1, 2, 3, 4) if settings.attack_is_over(t)] == over


def test_equal_settings_are_one_cache_key():
    assert hash(Settings(seed=3)) == hash(Settings.from_config({"seed": 3}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"task": "cifar"},
            "task is 'cifar': there is no 'cifar', expected one of spambase, mnist, digits, fashio",
        ),
        ({"attack": "alien"}, "attack is 'alien': there is no 'alien', expected one of gaussian,"),
        ({"attack": ""}, "attack is '', expected none, or an attack such as"),
        ({"knowledge": "some"}, "knowledge is 'some', expected 'default' or 'none' or 'own' or"),
        ({"momentum": 1.0}, "momentum is 1.0, expected a finite number >= 0 and < 1"),
        ({"weight-decay": -1.0}, "weight-decay is -1.0, expected a finite number >= 0"),
        ({"clip-norm": "a"}, "clip-norm is 'a', expected a finite number >= 0"),
        ({"local-epochs": -1}, "local-epochs is -1, expected an integer >= 0"),
        ({"task": 3}, "task is 3, expected a task such as 'mnist'"),
        ({"task": "mnist | mnist"}, "task is 'mnist | mnist': it is a chain, expected one name"),
        (
            {"task": "csv:a.csv(path=b)"},
            "task is 'csv:a.csv(path=b)': 'csv:a.csv(path=b)' is no file and its label",
        ),
        (
            {"model": "convnet"},
            "for examples of shape (57,): there is no 'convnet', expected one of mlp, logistic, or",
        ),
        ({"task": "mnist", "model": "mpl"}, "did you mean mlp?"),
        ({"holders": "some"}, "holders is 'some', expected 'all' or 'honest'"),
        ({"split": ""}, "split is '', expected a split such as 'dirichlet(alpha=0.1)'"),
        ({"schedule": "cosine"}, "schedule is 'cosine', expected 'constant' or 'inverse' or"),
        ({"num-clients": 0}, "num-clients is 0, expected an integer >= 1"),
        ({"num-clients": 20.0}, "num-clients is 20.0, expected an integer >= 1"),
        ({"f": 20}, "f is 20, expected an integer from 0 to 19"),
        ({"f": -1}, "f is -1, expected an integer from 0 to 19"),
        ({"f": True}, "f is True, expected an integer from 0 to 19"),
        ({"f": "3"}, "f is '3', expected an integer from 0 to 19"),
        ({"gaussian-variance": -1.0}, "gaussian-variance is -1.0, expected a finite number >= 0"),
        ({"gaussian-variance": float("nan")}, "gaussian-variance is nan, expected a finite"),
        ({"omniscient-factor": float("inf")}, "omniscient-factor is inf, expected a finite"),
        ({"omniscient-factor": "big"}, "omniscient-factor is 'big', expected a finite number >= 0"),
        ({"omniscient-examples": -5}, "omniscient-examples is -5, expected an integer >= 0"),
        ({"batch-size": -1}, "batch-size is -1, expected an integer from 0 to 100000"),
        ({"local-steps": 0}, "local-steps is 0, expected an integer from 1 to 100000"),
        ({"learning-rate": -0.1}, "learning-rate is -0.1, expected a finite number >= 0"),
        ({"decay-rounds": 0}, "decay-rounds is 0, expected an integer >= 1"),
        ({"seed": 2**32}, "seed is 4294967296, expected an integer from 0 to 4294967295"),
        ({"folds": 1}, "folds is 1, expected 0 or an integer >= 2"),
        ({"fold": 1}, "fold is 1, expected an integer from 0 to 0"),
        ({"folds": 5, "fold": 5}, "fold is 5, expected an integer from 0 to 4"),
        ({"attack-rounds": -1}, "attack-rounds is -1, expected an integer >= 0"),
        ({"data-dir": ""}, "data-dir is '', expected the path of a folder"),
        ({"roles": "server"}, "roles is 'server', expected 'partition' or 'node'"),
        ({"download": "yes"}, "download is 'yes', expected true or false"),
    ],
)
def test_an_illegal_value_is_named_with_its_legal_range(config, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings.from_config(config)
