import numpy as np
import pytest

from simulations.figures.experiment import read_experiment
from simulations.figures.rows import Row

TINY = """
title = "Tiny"
source = "a test"
caption = "Two rules."
x = "round"
y = "accuracy"
rounds = 20
seeds = 2

[windows]
final = [10, 20]

[settings]
task = "spambase"
num-clients = 7
f = 2
attack = "gaussian"
evaluate-every = 5

[[curve]]
key = "krum"
label = "Krum"
settings = { rule = "krum" }

[[curve]]
key = "average"
label = "averaging"
settings = { rule = "average" }
style = "dashed"

[[claim]]
id = "T1"
says = "Krum beats averaging"
[[claim.check]]
of = "krum"
minus = "average"
window = "final"
at_least = 0.0
"""


@pytest.fixture
def tiny(tmp_path):
    """A function that reads an experiment of two runs a seed, changed by replacing text."""

    def read(name="tiny", **changes):
        text = TINY
        for old, new in changes.items():
            text = text.replace(old, new)
        (tmp_path / f"{name}.toml").write_text(text)
        return read_experiment(tmp_path / f"{name}.toml")

    return read


@pytest.fixture
def rows():
    """A function that makes the rows of one curve, given its accuracy by seed (and round)."""

    def make(curve, accuracy, seeds=5, rounds=100, every=10, fold=0, loss=0.5, **place):
        where = {"figure": "x", "panel": "", "swept": None, "batch": 3, **place}
        return [
            Row(**where, curve=curve, seed=seed, fold=fold, round=t,
                accuracy=float(np.asarray(accuracy(seed, t))), loss=loss)
            for seed in range(seeds)
            for t in range(0, rounds + 1, every)
        ]  # fmt: skip

    return make
