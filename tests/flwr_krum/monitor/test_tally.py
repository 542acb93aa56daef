"""The numbers are those that counting the journal by hand gives."""

import json

import pytest

from flwr_krum.fates import fates
from flwr_krum.monitor import tally
from flwr_krum.monitor.tally import METRICS, OTHERS, Tally, numbers
from flwr_krum.report import RoundReport


def tallied(reports):
    found = Tally()
    for report in reports:
        found.add(numbers(report))
    return dict(found)


@pytest.fixture(scope="module")
def read(journal):
    """The journal as plain JSON, read by nothing of ours."""
    return [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.fixture(scope="module")
def found(read):
    return tallied(map(RoundReport.from_json, read))


def test_replies_are_counted_by_what_became_of_them(read, found):
    fields = {"accepted": "received", "refused": "refused", "failed": "failed", "silent": "silent"}
    for outcome, name in fields.items():
        assert found["replies", outcome] == sum(len(values[name]) for values in read)
    assert found["replies", "refused"] == 2
    assert found["replies", "failed"] == 4


def test_rounds_are_counted_by_whether_the_model_moved(read, found):
    assert found["rounds", "moved"] == sum(values["stepped"] for values in read) == 3
    assert found["rounds", "kept"] == 1


def test_each_node_is_counted_under_its_name(read, found):
    for node in (0, 4, "six", 8):
        chosen = sum(node in values["selected"] for values in read)
        accepted = sum(node in values["received"] for values in read)
        assert found.get(("node_rounds", str(node), "selected"), 0) == chosen
        assert found.get(("node_rounds", str(node), "passed over"), 0) == accepted - chosen
    assert found["node_rounds", "8", "refused"] == 2
    assert found["node_rounds", "8", "quarantined"] == 2
    assert found["node_rounds", "7", "failed"] == 1
    assert found["node_rounds", "six", "silent"] == 1
    per_node = sum(value for key, value in found.items() if key[0] == "node_rounds")
    assert per_node == 4 * 9


def test_gauges_are_those_of_the_last_round(read, found):
    last = read[-1]
    assert found["round",] == 4
    assert found["byzantine",] == last["byzantine"] == 2
    assert found["needed_replies",] == 7
    assert found["slack_replies",] == len(last["received"]) - 7 == -3
    assert found["nodes", "failed"] == 3
    assert found["nodes", "quarantined"] == 1
    assert ("certificate_kappa",) not in found  # none was made in the last round


def test_verdicts_stages_and_steps_are_those_of_the_journal(read):
    found = tallied(map(RoundReport.from_json, read[:3]))
    for kind in ("certificate", "guarantee"):
        verdicts = [values[kind]["verdict"] for values in read[:3]]
        for verdict in set(verdicts):
            assert found[f"{kind}_rounds", verdict] == verdicts.count(verdict)
    assert found["certificate_survives",] == read[2]["certificate"]["survives"]
    assert found["step_length", "taken"] == read[2]["steps"]["taken"] > 0
    seconds = sum(values["seconds"]["geometry"] for values in read[:3])
    assert found["stage_seconds", "geometry"] == pytest.approx(seconds)


def test_every_number_is_one_of_the_metrics_and_every_metric_has_one(read):
    found = {key for values in read for key in tallied([RoundReport.from_json(values)])}
    of_monitor = {"journal_readable", "journal_damaged_lines"}
    assert {key[0] for key in found} | of_monitor == set(METRICS)
    for name, *labels in found:
        assert len(labels) == len(METRICS[name].labels)


def test_a_number_and_its_text_are_one_node():
    report = RoundReport(1, "r", 0, received=(7, "7"), selected=(7,))
    assert numbers(report)["node_rounds", "7", "selected"] == 1
    assert numbers(report)["node_rounds", "7", "passed over"] == 1


def test_names_that_are_made_up_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(tally, "MOST_NODES", 3)
    found = tallied(RoundReport(t, "r", 0, silent=(t, f"{t} again")) for t in range(1, 5))
    nodes = {key[1] for key in found if key[0] == "node_rounds"}
    assert nodes == {"1", "1 again", "2", OTHERS}
    assert found["node_rounds", OTHERS, "silent"] == 5


def test_a_client_has_one_fate_and_that_is_the_worst():
    report = RoundReport(
        1, "r", 0, received=(1, 2, 3), selected=(2,), silent=(4,), quarantined=(5,),
        failed={3: "x", 6: "y"}, refused=(RoundReport.from_json(
            RoundReport(1, "r", 0).to_json() | {"refused": [[6, "z"]]}).refused),
    )  # fmt: skip
    assert fates(report) == {
        1: "passed over", 2: "selected", 3: "failed", 4: "silent", 5: "quarantined", 6: "refused",
    }  # fmt: skip
