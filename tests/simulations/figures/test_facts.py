import pytest

import simulations.figures.facts
from simulations.figures.facts import facts


def test_every_fact_holds():
    found = facts()
    assert len(found) == 12
    assert [fact for fact in found if not fact.holds] == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("eta", lambda n, f: 1.0),
        ("inverse_square_root", lambda t: 1.0 / t),
        ("Medoid", lambda: lambda V: simulations.figures.facts.Krum(1)(V[::-1])),
    ],
)
def test_a_wrong_rule_or_constant_is_found_out(monkeypatch, name, wrong):
    monkeypatch.setattr(simulations.figures.facts, name, wrong)
    assert [fact for fact in facts() if not fact.holds]
