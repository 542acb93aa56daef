import logging

import pytest

from flwr_krum.rules import RULES
from flwr_krum.rules.written import parse_rule
from simulations.studies.accidents import ACCIDENTS, Case, F, cases, outcome, table, worst


@pytest.fixture(autouse=True)
def quiet():
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def test_every_combination_is_played():
    played = list(cases(9))
    assert len(played) == len(set(played)) == (1 + 2 * 5) * (1 + 2 * 3)
    assert {(case.liars, case.accidents) for case in played} == {
        (i, j) for i in range(F + 1) for j in range(F + 1)
    }


PROMISE_LESS = {"average", "norm-bounding", "1-p-krum"}
"""Rules whose step one client can make as long as it likes."""


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in PROMISE_LESS])
def test_where_accidents_leave_enough_no_robust_rule_loses_a_round(rule):
    least = max(2 * F + 3, parse_rule(rule, f=F).least(F))
    for n in sorted({2 * F + 3, 3 * F + 3, least + F}):
        for case in cases(n):
            if n - case.accidents >= least and case.lie != "1e30":  # a million is as far
                assert outcome(rule, "message", case)[0] != "lost", case


@pytest.mark.parametrize("api", ["message", "fit"])
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_from_3f_3_clients_on_no_accident_opens_the_door(api, accident):
    for lie in ("a million", "nan", "a little off", "reversed"):
        result, report = outcome("multi-krum", api, Case(3 * F + 3, F, lie, F, accident))
        assert result in ("kept", "skipped")
        if lie != "nan":  # else the refused are the liars themselves
            assert report.byzantine == F


def test_with_fewer_clients_the_table_says_what_is_lost_and_the_report_on_what_it_rested():
    assert worst("multi-krum", 7) == "lost: liars 2, nan 1"
    assert worst("average", 9) == "lost: liars 2"
    result, report = outcome("multi-krum", "message", Case(7, 2, "a million", 1, "nan"))
    assert result == "lost"
    assert report.basis == "declared 2, lowered: 1 replies were refused"


def test_a_rule_that_only_bounds_the_step_is_held_back():
    case = Case(3 * F + 3, F, "reversed", 0, "none")
    assert [outcome(rule, "fit", case)[0] for rule in ("cge", "centered-clipping", "median")] == [
        "held back", "held back", "kept"
    ]  # fmt: skip


def test_the_table_has_a_row_per_rule_and_a_column_per_size():
    assert table(["median"], [9]).splitlines() == [
        "| rule | n = 9 |",
        "| --- | --- |",
        "| median | kept |",
    ]
