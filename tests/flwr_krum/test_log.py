from __future__ import annotations

from logging import INFO, WARNING

import pytest
from flwr.common.logger import FLOWER_LOGGER

from flwr_krum.guarantee import Guarantee
from flwr_krum.log import announce, conclusion, tree
from flwr_krum.report import RoundReport


def test_the_conclusion_counts_verdicts_and_gives_the_median_rounds_advice():
    def report(t, needed):
        bad = Guarantee("does not hold", 20, 6, 14.4, 1.0, 0.5, 2.0, needed)
        return RoundReport(t, "Krum(f=6)", 6, guarantee=bad, stepped=True)

    lines = conclusion([report(1, 4.0), report(2, 9.0), report(3, 100.0)], batch_size=3)
    assert lines[0] == "3 of 3 rounds moved the model"
    assert lines[1] == "guarantee: does not hold in 3"
    assert "mini-batches 9 times as large (3 -> 27)" in lines[3]


def test_the_last_branch_of_a_tree_is_marked():
    assert tree(["a", "b", "c"]) == ["\t├── a", "\t├── b", "\t└── c"]
    assert tree(["a"]) == ["\t└── a"]
    assert tree([]) == []


@pytest.mark.parametrize(
    ("lost", "level"),
    [
        ({}, INFO),
        ({"failed": {"site b": "a disk is full"}}, WARNING),
        ({"silent": ("site b",)}, WARNING),
    ],
)
def test_a_round_that_lost_a_reply_is_a_warning_that_says_whose_and_why(lost, level, caplog):
    caplog.set_level(INFO, FLOWER_LOGGER.name)
    announce(RoundReport(1, "Krum(f=0)", 0, received=("site a",), stepped=True, **lost))
    assert {record.levelno for record in caplog.records} == {level}
    text = caplog.text
    assert ("failed site b: a disk is full" in text) == ("failed" in lost)
    assert ("silent: site b, who did not answer in time" in text) == ("silent" in lost)
