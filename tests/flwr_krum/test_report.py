from __future__ import annotations

from flwr_krum.intake import Refused
from flwr_krum.report import RoundReport, tree


def test_a_report_reads_as_a_tree_of_what_happened():
    report = RoundReport(
        server_round=3,
        rule="Krum(f=1, strict=True)",
        byzantine=1,
        received=("1", "2", "9"),
        refused=(Refused("10", "array 'w': holds NaN"),),
        failed={"11": "timeout"},
        silent=("12", "13"),
        selected=("9",),
        stepped=True,
    )
    assert report.lines() == [
        "\t├── Krum(f=1, strict=True): 3 accepted, 1 refused, 1 failed, 2 silent",
        "\t├── refused 10: array 'w': holds NaN",
        "\t└── selected: 9",
    ]


def test_a_report_says_why_the_model_stayed():
    lines = RoundReport(1, "Medoid()", 0, note="no reply was accepted").lines()
    assert lines[1:] == ["\t├── no reply was accepted", "\t└── the global model stays as it is"]


def test_the_last_branch_of_a_tree_is_marked():
    assert tree(["a", "b", "c"]) == ["\t├── a", "\t├── b", "\t└── c"]
    assert tree(["a"]) == ["\t└── a"]
    assert tree([]) == []
