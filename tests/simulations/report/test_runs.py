import json

import pytest

from flwr_krum.report_page.render import render
from simulations.engines.engines import run as run_federation
from simulations.report.runs import read_runs
from simulations.run.origin import Origin


@pytest.fixture
def folder(config, tmp_path):
    """The folder of a short run."""
    run_federation(config(num_clients=7, f=2, attack="malformed", rule="krum"))
    return tmp_path / "run"


def test_a_run_is_read_with_its_rounds_its_attackers_and_its_origin(folder):
    (run,) = read_runs([folder])
    assert run.label == "run"
    assert run.byzantine == {5, 6}
    assert [record.round for record in run.history] == [0, 1, 2, 3]
    assert [report.server_round for report in run.reports] == [1, 2, 3]
    assert [one.client for one in run.reports[0].refused] == [5, 6]
    assert run.origin.data.startswith("Spambase")
    assert run.origin.versions["numpy"]


def test_a_run_that_is_cut_short_is_read_up_to_its_last_whole_round(folder):
    for name in ("history.jsonl", "journal.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[: len(text) - 20])
    (run,) = read_runs([folder])
    assert [record.round for record in run.history] == [0, 1, 2]
    assert [report.server_round for report in run.reports] == [1, 2]


def test_a_run_without_journal_and_origin_is_read_all_the_same(folder):
    (folder / "journal.jsonl").unlink()
    (folder / "origin.json").unlink()
    (run,) = read_runs([folder])
    assert run.reports == []
    assert run.origin is None


def test_runs_of_the_same_name_are_told_apart_by_their_paths(folder, tmp_path):
    other = tmp_path / "elsewhere" / "run"
    other.mkdir(parents=True)
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    labels = [run.label for run in read_runs([folder, other])]
    assert labels == [f"{folder.parent.name}/run", "elsewhere/run"]


def test_a_page_that_is_mailed_says_nothing_of_where_things_lie(folder, tmp_path):
    table = tmp_path / "private" / "mine.csv"
    config = json.loads((folder / "config.json").read_text())
    config |= {"task": f"csv:{table}", "data-dir": str(tmp_path)}
    (folder / "config.json").write_text(json.dumps(config))
    Origin.now(f"{table} (300 rows, 4 features)").write(folder)
    html = render(read_runs([folder]))
    assert str(tmp_path) not in html
    assert "csv:mine.csv" in html
    assert "mine.csv (300 rows, 4 features)" in html


def test_what_is_not_a_run_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"is not the folder of a run: it holds no config\.json"):
        read_runs([folder, tmp_path])
    (folder / "history.jsonl").write_text(json.dumps({"round": 1}) + "\n")
    with pytest.raises(ValueError, match=r"run holds a run that cannot be read"):
        read_runs([folder])
