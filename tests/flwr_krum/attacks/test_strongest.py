"""The strongest rows that a search finds: never weaker than what it begins with."""

from dataclasses import replace

import numpy as np
import pytest

from clients.cohort import Cohort
from clients.honest import HonestClient
from clients.learning.models import build_model, parameters_of
from clients.settings import Settings
from clients.tasks import load_task
from flwr_krum.attacks import ATTACKS, OptimalALIE, OptimalIPM, Scene, Strongest
from flwr_krum.attacks.attack import Attack
from flwr_krum.rules import (
    RULES,
    Average,
    Bulyan,
    ClientUpdates,
    Krum,
    MultiKrum,
    NearestNeighborMixing,
    NormBounding,
    TrimmedMean,
)

N, F, D = 20, 4, 30


def clouds(seed, h=N - F, d=D):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(h, d)) + 0.5 * rng.normal(size=d)


def scene(honest, rule, f=F, seed=0):
    d = honest.shape[1]
    own = np.resize(honest, (f, d))
    return Scene(
        honest,
        f,
        np.random.default_rng(seed),
        server_round=9,
        n=len(honest) + f,
        own=own,
        model=np.ones(d),
        gradient=-honest.mean(axis=0),
        rule=rule,
        memory={},
    )


def told(name):
    """Return a rule of a name as it is told of f liars among 20."""
    if name in ("average", "1-p-krum"):
        return RULES[name]() if name == "average" else RULES[name](F, seed=1)
    if name == "norm-bounding":
        return NormBounding(C=3.0)
    return RULES[name](F)


def result(rule, honest, rows):
    V = np.vstack([honest, rows])
    added = {name: [honest.mean(axis=0)] for name in rule.server_rows}
    updates = ClientUpdates.from_layers([[v] for v in V], server_rows=added)
    return rule(updates, server_round=9).vector


def damage(rule, honest, rows, goal="distance"):
    mean = honest.mean(axis=0)
    found = result(rule, honest, rows)
    return -found @ mean if goal == "progress" else np.linalg.norm(found - mean)


def fixed_attacks(seen):
    """Yield the rows of every attack of a name that sends any, and sees what it needs."""
    for kind in ATTACKS.values():
        attack = kind()
        if kind is Strongest or attack.changes_data or kind.spoiled is not Attack.spoiled:
            continue
        rows = attack.on(seen())
        if np.isfinite(rows).all():
            yield kind.__name__, rows


def weaker_than(rule, honest, **arguments):
    """Return the attacks that do more than the strongest one."""
    attack = Strongest(**arguments)
    found = attack.found(scene(honest, rule))
    goal = attack.goal
    assert damage(rule, honest, found.rows, goal) == pytest.approx(found.damage, rel=1e-9)
    return {
        name: (done, found.damage)
        for name, rows in fixed_attacks(lambda: scene(honest, rule))
        if (done := damage(rule, honest, rows, goal)) > found.damage + 1e-9 * abs(found.damage)
        # Draws are others' in each call.
        and name not in ("Gaussian", "Random")
    }


@pytest.mark.parametrize("goal", ["distance", "progress"])
@pytest.mark.parametrize("rule", [Krum(F), MultiKrum(F), TrimmedMean(F)], ids=str)
def test_it_is_not_weaker_than_any_other_attack(rule, goal):
    assert weaker_than(rule, clouds(0), goal=goal, budget=700) == {}


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_it_is_not_weaker_than_any_other_attack_against_any_rule(name, mixed):
    if name == "bulyan":
        honest, rule = clouds(1), Bulyan(F)
    else:
        honest, rule = clouds(1), told(name)
    rule = NearestNeighborMixing(F) | rule if mixed else rule
    budget = {"smea": 100, "geometric-median": 400}.get(name, 2000)
    assert weaker_than(rule, honest, budget=budget) == {}


@pytest.mark.slow
def test_it_is_not_weaker_on_the_updates_of_a_round_of_spambase(real_data):
    settings = Settings(num_clients=N, data_dir=str(real_data))
    task = load_task(settings)
    cohort = Cohort([HonestClient(settings, task, i) for i in range(N - F)])
    model = build_model(settings.task, settings.model, settings.seed)
    w = list(parameters_of(model).values())
    replies = [arrays for arrays, _ in cohort.propose(range(N - F), w, 1)]
    flat = [np.concatenate([a.ravel() for a in arrays]) for arrays in (w, *replies)]
    honest = np.array(flat[1:], np.float64) - flat[0]
    for rule in (Krum(F), NearestNeighborMixing(F) | Krum(F), TrimmedMean(F)):
        assert weaker_than(rule, honest) == {}


def test_what_it_finds_beats_a_single_factor_against_krum():
    honest = clouds(2)
    found = Strongest(budget=800).found(scene(honest, Krum(F)))
    single = max(kind().found(scene(honest, Krum(F))).damage for kind in (OptimalIPM, OptimalALIE))
    assert found.damage > 1.05 * single
    assert found.name
    np.testing.assert_array_equal(Strongest(budget=800).on(scene(honest, Krum(F))), found.rows)


def test_a_small_budget_is_kept_to_and_a_larger_one_does_no_less():
    honest = clouds(3)
    small, large = (Strongest(b).found(scene(honest, MultiKrum(F))) for b in (1, 900))
    assert small.damage <= large.damage
    assert small.rows.shape == (F, D)


@pytest.mark.parametrize("size", [0.0, 1e-200, 1e307, np.nan])
@pytest.mark.parametrize("rule", [Krum(2), TrimmedMean(2)], ids=str)
def test_rows_of_any_size_are_answered(rule, size, recwarn):
    honest = clouds(0, 7, 3) * size
    assert Strongest(60).on(scene(honest, rule, 2)).shape == (2, 3)
    assert not recwarn.list


def test_a_single_honest_client_and_a_rule_that_cannot_run():
    assert Strongest(60).on(scene(np.ones((1, 3)), Krum(0), 1)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"the rule in force cannot run on h \+ f = 5 clients"):
        Strongest().on(scene(np.ones((1, 3)), Krum(2)))


def rounds_of(attack, rule, seeds):
    """Return what is sent in one round after the other, with one memory."""
    memory = {}
    return [
        attack.on(replace(scene(clouds(seed), rule), server_round=t, memory=memory))
        for t, seed in enumerate(seeds, start=1)
    ]


@pytest.mark.parametrize("rule", [Krum(F), Average(), TrimmedMean(F)], ids=str)
def test_between_two_searches_the_combination_that_won_is_made_of_the_new_updates(rule):
    seldom = Strongest(budget=300, every=3)
    # Updates that do not change: what is made anew is what the search had found.
    first, second, third, fourth = rounds_of(seldom, rule, [4, 4, 4, 4])
    np.testing.assert_array_equal(first, Strongest(budget=300).on(scene(clouds(4), rule)))
    np.testing.assert_allclose(second, first, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(third, first, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(fourth, first)


def test_between_two_searches_new_updates_are_what_the_rows_follow():
    first, second = rounds_of(Strongest(budget=300, every=2), MultiKrum(F), [6, 7])
    assert not np.allclose(first, second)
    mean, searched = (
        clouds(7).mean(axis=0),
        Strongest(budget=300).on(scene(clouds(7), MultiKrum(F))),
    )
    # Near what a search of its own would do, far more than honest rows would.
    done, best = (damage(MultiKrum(F), clouds(7), rows) for rows in (second, searched))
    plain = damage(MultiKrum(F), clouds(7), np.tile(mean, (F, 1)))
    assert plain < done <= best


def test_other_clients_than_in_the_search_are_searched_anew():
    attack, memory = Strongest(budget=200, every=9), {}
    attack.on(replace(scene(clouds(8), Krum(F)), server_round=1, memory=memory))
    fewer = replace(scene(clouds(8, h=14), Krum(F)), server_round=2, memory=memory)
    assert attack.on(fewer).shape == (F, D)
    assert int(memory["searched"]) == 2


def test_without_a_memory_only_every_round_can_be_searched():
    with pytest.raises(ValueError, match="needs the rounds before"):
        Strongest(every=2).on(replace(scene(clouds(0), Krum(F)), memory=None))


def test_arguments_that_are_not_legal_are_named():
    with pytest.raises(ValueError, match="every is 0, expected an integer >= 1"):
        Strongest(every=0)
    with pytest.raises(ValueError, match="budget is 0, expected an integer >= 1"):
        Strongest(budget=0)
    with pytest.raises(ValueError, match="goal is 'chaos', expected 'distance' or 'progress'"):
        Strongest(goal="chaos")
