"""The claims of the paper that the laboratory stands on, at full length: minutes, so `slow`.

Accuracies are means over the rounds 401 to 500 and over the seeds; never a last evaluation.
"""

from pathlib import Path

import numpy as np
import pytest

from simulations.engines.parallel import run_all
from simulations.run.config import RunConfig
from simulations.run.history import read_history, window_mean

SEEDS = (0, 1, 2)
SPAM = {
    ("average", "none"),
    ("average", "gaussian"),
    ("multi-krum", "gaussian"),
    ("krum", "none"),
    ("krum", "gaussian"),
    ("medoid", "none"),
    ("medoid", "gaussian"),
}


def accuracies(folder, cases, window, **common):
    """Run every case with every seed and return its mean accuracy over window and seeds."""
    configs = {
        f"{rule} {attack} {seed}": RunConfig.from_config(
            {
                "rule": rule,
                "attack": attack,
                "seed": seed,
                "run-dir": str(folder / f"{rule}-{attack}-{seed}"),
                **{key.replace("_", "-"): value for key, value in common.items()},
            }
        )
        for rule, attack in sorted(cases)
        for seed in SEEDS
    }
    run_all(configs)
    return {
        (rule, attack): np.mean(
            [
                window_mean(read_history(Path(folder, f"{rule}-{attack}-{seed}")), *window)
                for seed in SEEDS
            ]
        )
        for rule, attack in cases
    }


@pytest.fixture(scope="module")
def spam(tmp_path_factory):
    found = accuracies(tmp_path_factory.mktemp("spam"), SPAM, (401, 500), f=6)
    print(found)
    return found


@pytest.mark.slow
def test_attacked_multi_krum_is_within_two_points_of_unattacked_averaging(spam):
    assert abs(spam["multi-krum", "gaussian"] - spam["average", "none"]) <= 0.02


@pytest.mark.slow
def test_attacked_averaging_is_at_least_fifteen_points_below_unattacked_averaging(spam):
    assert spam["average", "gaussian"] <= spam["average", "none"] - 0.15


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["krum", "medoid"])
def test_krum_and_medoid_lose_at_most_a_point_to_the_attack(spam, rule):
    assert spam[rule, "gaussian"] >= spam[rule, "none"] - 0.01


@pytest.mark.slow
def test_omniscient_clients_destroy_averaging_and_not_multi_krum(tmp_path):
    cases = {("average", "omniscient"), ("multi-krum", "omniscient")}
    mnist = accuracies(
        tmp_path,
        cases,
        (160, 200),
        task="mnist",
        f=8,
        num_server_rounds=200,
        omniscient_examples=256,
    )
    print(mnist)
    assert mnist["multi-krum", "omniscient"] >= 0.8
    assert mnist["average", "omniscient"] <= 0.2
