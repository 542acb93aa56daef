"""The study of certificates under attack: its counts, and what it holds them against."""

import math

import numpy as np
import pytest

from simulations.studies import certificates as module
from simulations.studies.certificates import Tally, comparison, markdown, study


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ATTACKS", {"none": "none", "Gaussian": "gaussian"})
        kept = ("average", "multi-krum", "median", "fltrust", "bulyan")
        patch.setattr(module, "RULES", {name: module.RULES[name] for name in kept})
        patch.setattr(module, "MIXED", ("nnm | krum",))
        found = study(4)
        return found, markdown(found, 4, "command")


def test_no_certificate_is_wrong_and_the_average_holds_in_no_round_that_moved_it(found):
    tallies, _ = found
    every = [tally for by_attack in tallies.values() for tally in by_attack.values()]
    assert {tally.rounds for tally in every} == {4}
    assert [tally.wrong for tally in every] == [0] * 10
    far = tallies["average"]["Gaussian"]
    assert (far.moved, far.holds, far.moved_and_holds) == (4, 0, 0)
    assert tallies["multi-krum"]["Gaussian"].holds == 4
    assert tallies["average"]["none"].holds == 4


def test_a_rule_that_cannot_run_has_a_row_and_no_share(found):
    tallies, page = found
    assert not tallies["bulyan"]
    assert "| bulyan | – | – |" in page
    assert "| average | 100 | 0 |" in page
    assert r"| nnm \| krum | 100 | 100 |" in page
    assert "- –: bulyan cannot run on 20 clients with 6 liars." in page


def test_a_statement_that_is_not_so_is_counted():
    tally = Tally()
    tally.add("holds", 0.5, np.longdouble(0.5) + np.longdouble(2.0) ** -60, 1.5)
    assert tally.wrong == 1
    tally.add("holds", 2.0, np.longdouble(1.75), 1.5)
    assert (tally.wrong, tally.moved, tally.moved_and_holds) == (1, 1, 1)
    tally.add("does not hold", math.inf, np.longdouble(math.inf), 1.5)
    assert (tally.wrong, tally.moved, tally.moved_and_holds) == (1, 2, 1)
    assert "In 1 of 3 certificates" in comparison({"average": {"none": tally}})[0]


def test_the_truth_is_the_distance_from_the_honest_average_in_their_spreads():
    honest = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]], dtype=np.longdouble)
    assert module._ratio(np.array([2.0, 2.0]), honest) == pytest.approx(4 / (8 / 3))
    assert module._ratio(honest[1], honest) == 0.0
    assert module._ratio(np.array([0.0, 1.0]), honest[:1]) == np.inf
