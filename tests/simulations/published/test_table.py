"""The files of published tables: complete, legal, and what they say they are."""

import numpy as np
import pytest

from flwr_krum.attacks import SignFlip
from flwr_krum.rules import TrimmedMean
from simulations.published.table import NAMES, load_table
from simulations.published.velocity_fl import OnWeights, SignOfWeights, SingleShot

TINY = """
title = "A table"
source = "a page"
caption = "It is small."
rounds = 4
seeds = 2
data = "embedded"
measure = "maximum-of-mean"
within = 0.02
settings = { task = "spambase", evaluate-every = 2 }
rules = { mean = "average", krum = "krum" }
attacks = { flip = "sign-flip", noise = "gaussian" }
[[part]]
key = "n=7"
settings = { num-clients = 7, f = 2 }
published = { mean = 0.5, krum = { flip = 0.6 } }
"""


@pytest.fixture
def file(tmp_path):
    """A function that writes the tiny table with some text replaced, and returns its path."""

    def file(old="", new=""):
        assert old in TINY
        path = tmp_path / "tiny.toml"
        path.write_text(TINY.replace(old, new) if old else TINY)
        return str(path)

    return file


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_a_table_that_comes_along_is_legal(name):
    table = load_table(name)
    for each in table.printed:
        for attack in each.attacks:
            runs = table.configs(each.part, each.rule, attack, table.rounds, range(table.seeds))
            assert [run.settings.seed for run in runs] == list(range(table.seeds))


def test_byzfls_map_has_32_cells_of_its_settings():
    table = load_table("byzfl-mnist")
    assert len(table.printed) == 32
    assert {len(each.attacks) for each in table.printed} == {3}
    values = {(each.part, each.rule): each.value for each in table.printed}
    assert values["gamma=0 f=2", "trimmed mean"] == 0.61
    assert values["gamma=0.33 f=4", "geometric median"] == 0.94
    (run,) = table.configs("gamma=0.33 f=4", "geometric median", "optimal IPM", 800, [2])
    settings = run.settings
    assert (settings.num_clients, settings.f, settings.holders) == (14, 4, "honest")
    assert (settings.batch_size, settings.momentum, settings.learning_rate) == (25, 0.9, 0.1)
    # The weight decay of 1e-4 at the rate .1; the radius 2 and the floor .1 are of momenta.
    assert run.build_optimizer().decay == pytest.approx(0.1 * 1e-4)
    assert pytest.approx(0.1 * 2) == run.build_rule().mixing.parts[0].C
    assert run.build_rule().rule.nu == pytest.approx(0.1 * 0.1)


def test_velocity_fls_arena_has_the_24_cells_of_rules_that_are_here():
    table = load_table("velocity-fl")
    assert len(table.printed) == 24
    assert table.equal.like not in {attack for each in table.printed for attack in each.attacks}


def test_a_number_alone_is_the_worst_of_all_attacks_and_a_table_names_its_own(file):
    table = load_table(file())
    assert [(each.rule, each.attacks, each.value) for each in table.printed] == [
        ("mean", ("flip", "noise"), 0.5),
        ("krum", ("flip",), 0.6),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source", "sauce", "unknown keys"),
        ('"maximum-of-mean"', '"best"', "measure is 'best', expected one of"),
        ("krum = { flip", "medoid = { flip", "rule is 'medoid', expected one of"),
        ("{ flip = 0.6", "{ alie = 0.6", "attack is 'alie', expected one of"),
        ('caption = "It is small."', "", "the key 'caption' is missing"),
        ("[[part]]", "part = 1\n[part]", "tiny.toml"),
    ],
)
def test_a_file_that_says_something_else_is_an_error(file, old, new, message):
    with pytest.raises(ValueError, match=message):
        load_table(file(old, new))


def test_there_is_no_table_of_another_name():
    with pytest.raises(ValueError, match="table is 'byzfl', expected one of"):
        load_table("byzfl")


def test_rounds_whose_last_model_is_not_evaluated_are_an_error(file):
    with pytest.raises(ValueError, match="rounds is 3, expected a multiple of evaluate-every"):
        load_table(file()).configs("n=7", "mean", "flip", 3, [0])


def test_an_attack_on_weights_sees_and_sends_whole_models():
    w, own = np.array([1.0, -2.0]), np.array([[0.5, 0.25]])
    honest = np.array([[0.5, 0.25], [1.5, 0.75]])
    flipped = OnWeights(attack=SignFlip())(honest, 1, own=own, model=w)
    np.testing.assert_allclose(w + flipped, -(w + own))
    signs = OnWeights(attack=SignOfWeights())(honest, 2, model=w)
    np.testing.assert_allclose(w + signs, [w - [1.0, -1.0]] * 2)


def test_a_single_shot_keeps_the_smallest_scores_of_one_round_of_scoring():
    n, f = 11, 2
    V = np.random.default_rng(0).normal(size=(n, 3))
    scores = []
    for i in range(n):
        apart = sorted(((V[i] - V[j]) ** 2).sum() for j in range(n) if j != i)
        scores.append(sum(apart[: n - f - 2]))
    kept = np.argsort(scores)[: n - 2 * f]
    expected = np.sort(V[kept], axis=0)[f : len(kept) - f].mean(axis=0)
    found = (SingleShot(f) | TrimmedMean(f))(V).vector
    np.testing.assert_allclose(found, expected, rtol=1e-12)
