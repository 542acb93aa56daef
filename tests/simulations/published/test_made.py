"""A published table from the command line to its files, on a tiny one."""

import csv
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.engines.engines import quiet_flower, run

TABLE = """
title = "A small table"
source = "nowhere"
caption = "Made up."
rounds = 6
seeds = 2
data = "embedded"
measure = "maximum-of-mean"
within = 0.02
settings = { task = "spambase", num-clients = 7, evaluate-every = 2 }
rules = { mean = "average", krum = "krum" }
attacks = { flip = "sign-flip(scale=9)", noise = "gaussian", far = "constant(value=1e6)" }
[equal]
like = "far"
rules = ["mean", "krum"]
attacks = ["noise"]
[[part]]
key = "one"
settings = { f = 1 }
published = { mean = 0.5, krum = { flip = 0.6 } }
[[part]]
key = "two"
settings = { f = 2 }
published = { mean = { noise = 0.5 }, krum = { noise = 0.6 } }
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that makes the table in one folder with more options, and returns what is said."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "small.toml").write_text(TABLE)
    started = []

    def run_all(configs, engine, processes, observer):
        for place, config in configs.items():
            started.append(place)
            with quiet_flower():
                run(config, engine, lambda record, place=place: observer(place, record))

    def make(*options):
        started.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("simulations.engines.kept.run_all", run_all)
            words = ["published", str(folder / "small.toml"), "--out", str(folder / "out")]
            result = CliRunner().invoke(app, [*words, *options])
        return result, list(started)

    make.folder = folder
    return make


def rows(made):
    return list(csv.DictReader((made.folder / "out/small.csv").read_text().splitlines()))


def accuracies(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    found = [json.loads(line)["accuracy"] for line in lines]
    return [accuracy for accuracy in found if accuracy is not None]


def curves(made):
    """The evaluations of every run, by f, rule and attack: (seeds, evaluations)."""
    found = {}
    for place in sorted((made.folder / "out/runs").glob("*/config.json")):
        config = json.loads(place.read_text())
        key = config["f"], config["rule"], config["attack"].partition("(")[0]
        found.setdefault(key, {})[config["seed"]] = accuracies(place.parent)
    return {key: np.array([found[key][seed] for seed in sorted(found[key])]) for key in found}


def test_a_part_alone_is_run_and_its_runs_are_there_when_all_are(made):
    result, started = made("--parts", "two")
    assert result.exit_code == 0, result.output
    assert len(started) == 8  # two rules, noise and far, two seeds
    assert {row["part"] for row in rows(made)} == {"two"}
    result, again = made()
    assert result.exit_code == 0, result.output
    assert set(again).isdisjoint(started)
    # The mean under all three; krum under flip, and under noise and far to be compared.
    assert len(again) == 12
    assert made()[1] == []


def test_a_cell_is_the_least_over_the_attacks_of_the_largest_mean_over_the_rounds(made):
    made()
    found = curves(made)
    by_attack = {
        "flip": found[1, "average", "sign-flip"].mean(axis=0).max(),
        "noise": found[1, "average", "gaussian"].mean(axis=0).max(),
        "far": found[1, "average", "constant"].mean(axis=0).max(),
    }
    under = min(by_attack, key=by_attack.get)
    cells = [r for r in rows(made) if (r["part"], r["rule"]) == ("one", "mean")]
    assert [row["seed"] for row in cells] == ["0", "1"]
    for row in cells:
        assert row["under"] == under
        assert float(row["found"]) == pytest.approx(by_attack[under], abs=1e-6)
        near = abs(by_attack[under] - 0.5) <= 0.02
        assert row["verdict"] == ("within 0.02" if near else "not within 0.02")


def test_the_page_says_how_many_cells_agree_and_which_rules_an_attack_moves(made):
    made("--page", str(made.folder / "page.md"))
    text = (made.folder / "page.md").read_text()
    agree = sum(row["verdict"] == "within 0.02" for row in rows(made) if row["seed"] == "0")
    assert f"A small table: {agree} of 4 cells are as near as is asked for." in text
    found = curves(made)
    broken = [
        (f, rule)
        for f in (1, 2)
        for rule in ("average", "krum")
        if (found[f, rule, "gaussian"][:, -1] != found[f, rule, "constant"][:, -1]).any()
    ]
    assert (1, "krum") not in broken
    assert f"Attacked equals replaced: {4 - len(broken)} of 4 pairs" in text
    assert re.search(r"small\.toml`\n", text)


def test_a_part_that_is_none_is_an_error(made):
    result, _ = made("--parts", "three")
    assert result.exit_code == 2
    assert "--parts hold ['three'], expected some of ['one', 'two']" in result.output
