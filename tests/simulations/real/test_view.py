import io

import pytest
from rich.console import Console

from flwr_krum.boundary.replies import Refused
from flwr_krum.report import RoundReport
from simulations.real.view import Federated, NodeState, activity, line_of, losses, render
from simulations.run.history import RoundRecord

FIRST = RoundReport(
    server_round=1, rule="Krum(f=2)", byzantine=2, received=(0, 1, 2, 3, 5), selected=(2,),
    refused=(Refused(6, "array 'w': holds NaN"),), silent=(4,), quarantined=(7,),
    doubted={5: "claims nan examples"}, stepped=True,
)  # fmt: skip
SECOND = RoundReport(
    server_round=2, rule="Krum(f=2)", byzantine=2, received=(0, 1), silent=(4,),
    failed={3: "Node Unavailable"}, note="Krum needs 2f + 2 < n",
)  # fmt: skip


def test_the_late_are_told_from_the_silent():
    report = RoundReport(3, "Krum(f=2)", 2, received=(0, 1), silent=(4,), late=(5, 6))
    assert losses([FIRST, report]) == [
        "node 4: silent in 2 rounds",
        "node 5: late in 1 round",
        "node 6: late in 1 round",
    ]
    assert "5 silent (late), 6 silent (late)" in line_of(report, RoundRecord(3, None, None))


def test_losses_are_counted_by_node_and_answered_rounds_are_none():
    assert losses([FIRST, SECOND]) == [
        "node 3: failed in 1 round (Node Unavailable)",
        "node 4: silent in 2 rounds",
    ]
    assert losses([]) == []


@pytest.mark.parametrize(
    ("log", "now"),
    [
        ("", "waiting"),
        ("Receiving: train message (ID: a)\n", "training"),
        ("Receiving: train message (ID: a)\nSent successfully\n", "answered"),
        ("Receiving: x\nSent successfully\nReceiving: y\n", "training"),
    ],
)
def test_what_a_node_does_is_read_from_the_last_that_its_log_says(log, now):
    assert activity(log) == now


def test_a_round_in_one_line_names_everyone_in_trouble():
    assert line_of(FIRST, RoundRecord(1, 0.75, 0.5)) == (
        "round 1, accuracy 0.7500, 5 accepted, 6 refused: array 'w': holds NaN, 4 silent"
    )
    assert line_of(SECOND, RoundRecord(2, None, None)) == (
        "round 2, 2 accepted, 3 failed: Node Unavailable, 4 silent, skipped: Krum needs 2f + 2 < n"
    )


def test_the_view_shows_each_node_and_each_round():
    nodes = [
        NodeState(2, "honest", "pid 12", "training"),
        NodeState(6, "malformed", "pid 13", "answered"),
        NodeState(4, "honest", "ended (-9)", "gone"),
    ]
    history = [RoundRecord(0, 0.5, 0.7), RoundRecord(1, 0.75, 0.5)]
    printed = io.StringIO()
    view = render(Federated("running", 5, nodes, [FIRST], history))
    Console(file=printed, width=120).print(view)
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    assert "running, round 1 of 5, accuracy 0.7500 after round 1" in lines
    assert "2 honest pid 12 training selected 1 of 1" in lines
    assert "6 malformed pid 13 answered refused: array 'w': holds NaN 0 of 1" in lines
    assert "4 honest ended (-9) gone silent 0 of 1" in lines
    assert "1 0.7500 5 6 4 2" in lines


def test_the_view_can_be_drawn_before_the_first_round():
    printed = io.StringIO()
    Console(file=printed).print(render(Federated("connecting", 5, [], [], [])))
    assert "connecting, round 0 of 5" in printed.getvalue()
