import logging

import pytest

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
    assert len(played) == len(set(played)) == (1 + 2 * 4) * (1 + 2 * 3)
    assert {(case.liars, case.accidents) for case in played} == {
        (i, j) for i in range(F + 1) for j in range(F + 1)
    }


@pytest.mark.parametrize("api", ["message", "fit"])
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_from_3f_3_clients_on_no_accident_opens_the_door(api, accident):
    for lie in ("a million", "nan", "a little off"):
        result, report = outcome("multi-krum", api, Case(3 * F + 3, F, lie, F, accident))
        assert result in ("kept", "skipped")
        if lie != "nan":  # else the refused are the liars themselves
            assert report.byzantine == F


def test_with_fewer_clients_the_table_says_what_is_lost_and_the_report_on_what_it_rested():
    assert worst("multi-krum", 7) == "lost from 1 accident(s) on"
    result, report = outcome("multi-krum", "message", Case(7, 2, "a million", 1, "nan"))
    assert result == "lost"
    assert report.basis == "declared 2, lowered: 1 replies were refused"


def test_the_table_has_a_row_per_rule_and_a_column_per_size():
    assert table(["median"], [9]).splitlines() == [
        "| rule | n = 9 |",
        "| --- | --- |",
        "| median | kept |",
    ]
