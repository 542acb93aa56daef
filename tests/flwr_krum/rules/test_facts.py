"""What a rule says of itself holds; what it does not say, it lacks."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from flwr_krum.kernel import client_geometry
from flwr_krum.rules import MIXINGS, RULES, Average, ClientUpdates, GeometricMedian
from flwr_krum.rules.facts import ALL, Facts, Kappa
from tests.flwr_krum.test_every_rule import OPTIONS, close

NAMED = {**RULES, **MIXINGS}
USUAL = {
    **{name: options(1.0) for name, options in OPTIONS.items()},
    "centered-clipping": {},  # tau is the median distance unless it is given
    "dnc": {"columns": 2, "seed": 0},
}
"""Arguments with which a rule shows what it lacks."""

every_name = pytest.mark.parametrize("name", NAMED)


def build(name):
    """Return a rule, or a mixing before one that has every invariance."""
    part = NAMED[name](2, **USUAL.get(name, {}))
    return part if name in RULES else part | GeometricMedian(2)


def result_of(rule, V):
    """Return what a rule makes of updates of a model at zero; the server's rows are their mean."""
    rows = {name: [V.mean(axis=0)] for name in rule.server_rows}
    models = [[row] for row in V]
    return rule(ClientUpdates.from_layers(models, [np.zeros(3)], server_rows=rows)).vector


def drawn(seed):
    return np.random.default_rng(seed).standard_normal((11 + seed % 2, 3))


@cache
def result_before(name, seed):
    """Return the result that each map of an invariance is compared with."""
    return result_of(build(name), drawn(seed))


def mapped(invariance, V, seed):
    """Return the updates after a map of that kind, and the map of the result."""
    rng = np.random.default_rng(seed)
    shift, Q = 9.0 * rng.standard_normal(3), np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return {
        "permutation": lambda: (V[rng.permutation(len(V))], lambda x: x),
        "translation": lambda: (V + shift, lambda x: x + shift),
        "scaling": lambda: (V * 7.3, lambda x: x * 7.3),
        "rotation": lambda: (V @ Q, lambda x: x @ Q),
        "negation": lambda: (-V, lambda x: -x),
    }[invariance]()


@pytest.mark.parametrize("invariance", ALL)
@every_name
def test_a_rule_has_the_invariances_that_it_names_and_no_other(name, invariance):
    rule = build(name)
    holds = True
    for seed in range(24):
        W, image = mapped(invariance, drawn(seed), seed)
        holds = close(result_of(rule, W), image(result_before(name, seed)), 1e-6)
        if not holds:
            break
    assert holds == (invariance in NAMED[name].facts.invariances)


@every_name
def test_a_rule_asks_for_the_clients_that_its_requirement_says(name):
    rule = NAMED[name]()
    words = rule.requirement.replace("c f", "1 f")  # DnC's c is 1 unless it is given
    formula = re.sub(r"(\d) ?f", r"\1 * f", words)
    for f in range(1, 7):
        least = next(n for n in range(1, 40) if eval(formula, {"n": n, "f": f}))
        assert rule.least(f) == least


@pytest.mark.parametrize("name", RULES)
def test_a_rule_tolerates_the_share_of_liars_that_it_breaks_down_at(name):
    n, share = 2001, Fraction(RULES[name].facts.breakdown.split(",")[0])
    rule = RULES[name](**USUAL.get(name, {}))
    if not rule.is_bounded:
        assert share == 0
    elif name == "norm-bounding":
        assert share == 1  # whoever lies moves it by C at most
        assert np.linalg.norm(result_of(rule, np.full((5, 3), 1e9))) <= 1.0001
    else:
        assert abs(rule.most(n) / n - share) < 2 / n


@every_name
def test_only_a_rule_whose_cost_has_n_squared_d_compares_the_clients_in_pairs(name, monkeypatch):
    compared = []
    for function in ("gram_distances", "squared_distances"):
        real = getattr(client_geometry, function)
        monkeypatch.setattr(
            client_geometry, function, lambda x, real=real: compared.append(x) or real(x)
        )
    part = NAMED[name](2, **USUAL.get(name, {}))
    rule = part if name in RULES else part | Average()
    result_of(rule, np.random.default_rng(0).standard_normal((11, 3)))
    assert bool(compared) == ("n^2 d" in NAMED[name].facts.cost)


@pytest.mark.parametrize("kinds", [RULES, MIXINGS])
def test_every_named_rule_has_facts_of_its_own(kinds):
    facts = [vars(kind)["facts"] for kind in kinds.values()]
    assert all(isinstance(one, Facts) and one.source and one.cost for one in facts)


def test_a_constant_that_was_not_read_says_so():
    assert str(Kappa("2f", "Somebody", checked=False)) == "`2f` (Somebody; not checked)"
    assert str(Kappa("2f", "Somebody", checked=True)) == "`2f` (Somebody)"
    unread = [kind.facts.kappa for kind in NAMED.values() if isinstance(kind.facts.kappa, Kappa)]
    assert unread
    assert all("not checked" in str(kappa) for kappa in unread)
