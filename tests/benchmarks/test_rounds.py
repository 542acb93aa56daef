"""Rounds on a real SuperLink: what is measured, and what is left of it."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.rounds import WAYS, Round, measured, table


def shown(rounds):
    console = Console(width=160, record=True, file=StringIO())
    console.print(table(rounds))
    return console.export_text()


def test_a_table_has_the_least_and_the_median_of_all_runs_of_a_way():
    rounds = [Round(WAYS[place % 2], 4.0 + place, 1.0, 2.0, 6 - place) for place in range(5)]
    (row,) = (line for line in shown(rounds).splitlines() if WAYS[0] in line)
    assert "4.00, 6.00" in row
    assert row.rstrip(" │").endswith(" 2")


def test_too_few_nodes_for_f_are_an_error_before_anything_is_started(tmp_path):
    with pytest.raises(ValueError, match="nodes is 4, expected at least 2f \\+ 3 = 5"):
        next(measured(tmp_path, WAYS, 4, 1, 2, 0, 10))
    assert not list(tmp_path.iterdir())


@pytest.mark.flower
@pytest.mark.slow
def test_all_ways_have_all_replies_and_with_the_lane_what_is_shared_is_fetched_once(
    tmp_path,
):
    frozen, own = 200_000, 100
    found = list(measured(tmp_path, WAYS, 3, 0, 2, frozen, own))
    assert [taken.way for taken in found] == list(WAYS)
    assert all(taken.replies == 3 for taken in found)
    assert all(0.0 < taken.came <= taken.chosen < taken.seconds for taken in found)
    fetched = {taken.fetched for taken in found if taken.way == WAYS[2]}
    assert all(4 * frozen < size < 1.1 * 4 * frozen for size in fetched)
    assert not list(tmp_path.iterdir())
