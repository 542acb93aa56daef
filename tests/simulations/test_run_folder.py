"""What a run leaves in its folder when others want the folder too, and when a disk fails."""

import json
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flwr_krum.journal import JournalError, read_journal
from flwr_krum.lines import FileError
from flwr_krum.lock import LockedError
from simulations import server_app
from simulations.cli import app
from simulations.engines.engines import run
from simulations.engines.inprocess import InProcessGrid
from simulations.run import history
from simulations.run.folder import LOCK_FILE
from simulations.run.history import read_history, read_model, read_saved
from tests.full_disk import files_of_at_most

FILES = {"config.json", "history.jsonl", "journal.jsonl", "model.npz", "origin.json"}


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_and_the_first_goes_on(config, tmp_path, resume):
    who = f"run is being written by process {os.getpid()} on {socket.gethostname()}: wait for it"
    refused = []

    def observer(record):
        before = contents(tmp_path / "run")
        with pytest.raises(LockedError, match=who):
            run(config(resume=resume, rule="medoid"))
        assert contents(tmp_path / "run") == before
        refused.append(record.round)

    run(config(), observer=observer)
    assert refused == [0, 1, 2, 3]
    assert [record.round for record in read_history(tmp_path / "run")] == [0, 1, 2, 3]
    assert set(contents(tmp_path / "run")) == FILES


def test_a_folder_whose_run_was_killed_is_free(config, tmp_path):
    (tmp_path / "run").mkdir()
    for name in (LOCK_FILE, "journal.jsonl.lock"):
        (tmp_path / "run" / name).write_text("process 1 on elsewhere\n")
    run(config())
    assert set(contents(tmp_path / "run")) == FILES


DAMAGE = {
    "config.json": (b"", r"config\.json: not a run's configuration: "),
    "model.npz": (b"", r"model\.npz: not the model of a run: "),
    "history.jsonl": (b"\0" * 1000 + b"\n", r"history\.jsonl, line 1: not a round's record"),
    "journal.jsonl": (b"\0" * 1000 + b"\n", r"journal\.jsonl, line 1: not a round report"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_and_no_other_is_touched(config, tmp_path, name):
    run(config())
    damage, message = DAMAGE[name]
    (tmp_path / "run" / name).write_bytes(damage)
    before = contents(tmp_path / "run")
    with pytest.raises(FileError, match=message):
        run(config(num_server_rounds=9, resume=True))
    after = contents(tmp_path / "run")
    assert {key: after[key] for key in DAMAGE if key != "config.json"} == {
        key: before[key] for key in DAMAGE if key != "config.json"
    }


def test_a_history_without_the_rounds_of_its_model_is_no_beginning(config, tmp_path):
    run(config())
    file = tmp_path / "run/history.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(FileError, match=r"history\.jsonl holds 2 of the 4 rounds 0 to 3 whose mod"):
        run(config(num_server_rounds=9, resume=True))


def test_a_model_that_claims_a_round_far_away_is_no_beginning(config, tmp_path):
    run(config())
    _, model = read_model(tmp_path / "run")
    np.savez(tmp_path / "run/model.npz", **{"server-round": np.array(2**60)}, **model)
    with pytest.raises(FileError, match=f"holds 4 of the {2**60 + 1} rounds"):
        run(config(num_server_rounds=2**62, resume=True))


@pytest.mark.parametrize("key", ["output.bias", "another"])
def test_the_model_of_another_run_is_refused_by_its_layers(config, tmp_path, key):
    run(config())
    done, model = read_model(tmp_path / "run")
    arrays = {"server-round": np.array(done), **model, key: np.zeros(7)}
    np.savez(tmp_path / "run/model.npz", **arrays)
    with pytest.raises(FileError, match=f"not the model of this run: it differs in {key}"):
        run(config(num_server_rounds=9, resume=True))


def test_a_model_goes_on_by_the_names_of_its_layers(config, tmp_path):
    run(config(num_server_rounds=6, run_dir=str(tmp_path / "whole")))
    run(config())
    done, model = read_model(tmp_path / "run")
    backwards = dict(reversed(model.items()))
    np.savez(tmp_path / "run/model.npz", **{"server-round": np.array(done)}, **backwards)
    run(config(num_server_rounds=6, resume=True))
    whole, parts = (tmp_path / name / "model.npz" for name in ("whole", "run"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_run_that_a_full_disk_ends_goes_on_to_the_same_end(config, tmp_path, monkeypatch, api):
    monkeypatch.setattr(history, "SAVE_EVERY", 0.0)
    options = {"rule": "1-p-krum", "f": 6, "attack": "gaussian", "num_server_rounds": 12}
    run(config(run_dir=str(tmp_path / "whole"), api=api, **options))
    size = (tmp_path / "whole/journal.jsonl").stat().st_size
    with (
        files_of_at_most(size // 2),
        pytest.raises(JournalError, match=r"round \d+: .*journal\.jsonl cannot be written: File "),
    ):
        run(config(api=api, **options))
    done, _ = read_model(tmp_path / "run")
    assert 3 <= done < 12
    rounds = [report.server_round for report in read_journal(tmp_path / "run/journal.jsonl")]
    assert rounds == list(range(1, done + 1))
    assert [record.round for record in read_history(tmp_path / "run")] == [0, *rounds]
    assert set(contents(tmp_path / "run")) == FILES
    run(config(api=api, resume=True, **options))
    for name in ("model.npz", "history.jsonl"):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "run"))
        assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("api", ["message", "fit"])
@pytest.mark.parametrize("optimizer", ["fedavgm(eta=0.3)", "fedadagrad", "fedadam", "fedyogi"])
def test_a_run_under_an_optimizer_goes_on_to_the_bytes_of_an_unbroken_one(
    config, tmp_path, api, optimizer
):
    options = {"f": 6, "attack": "gaussian", "api": api, "server_optimizer": optimizer}
    run(config(num_server_rounds=6, run_dir=str(tmp_path / "whole"), **options))
    run(config(num_server_rounds=2, **options))
    run(config(num_server_rounds=4, resume=True, **options))
    run(config(num_server_rounds=6, resume=True, **options))
    for name in ("model.npz", "history.jsonl"):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "run"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_run_under_an_optimizer_that_is_killed_rounds_after_its_last_model_goes_on_from_there(
    config, tmp_path, monkeypatch
):
    options = {"server_optimizer": "fedadam(eta=0.01)", "num_server_rounds": 12}
    run(config(run_dir=str(tmp_path / "whole"), **options))

    class KilledError(Exception):
        pass

    def observer(record):
        if record.round == 5:
            patch.setattr(history, "SAVE_EVERY", np.inf)
        if record.round == 8:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(history, "SAVE_EVERY", 0.0)
        patch.setattr(history.HistoryWriter, "__exit__", lambda *_: None)
        with pytest.raises(KilledError):
            run(config(**options), observer=observer)
    done, _, state, _ = read_saved(tmp_path / "run")
    assert len(read_journal(tmp_path / "run/journal.jsonl")) == 8
    assert done == state["optimizer/round"] == 5
    run(config(resume=True, **options))
    for name in ("model.npz", "history.jsonl"):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "run"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_run_does_not_go_on_under_another_optimizer_or_without_what_its_own_remembers(
    config, tmp_path
):
    run(config(server_optimizer="fedadam"))
    for other in ("", "fedavgm", "fedadam(eta=0.2)"):
        with pytest.raises(ValueError, match=f"server-optimizer was 'fedadam' and is '{other[:7]}"):
            run(config(num_server_rounds=9, resume=True, server_optimizer=other))
    done, model = read_model(tmp_path / "run")
    assert not any(key.startswith("optimizer/") for key in model)
    np.savez(tmp_path / "run/model.npz", **{"server-round": np.array(done)}, **model)
    before = contents(tmp_path / "run")
    with pytest.raises(FileError, match=r"does not hold what FedAdam\(eta=0.1, .* of 3 rounds"):
        run(config(num_server_rounds=9, resume=True, server_optimizer="fedadam"))
    assert contents(tmp_path / "run") == before


def test_a_run_from_before_there_were_optimizers_does_not_go_on_under_one(config, tmp_path):
    run(config())
    file = tmp_path / "run/config.json"
    values = json.loads(file.read_text())
    del values["server-optimizer"]
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="server-optimizer was '' and is 'fedadam'"):
        run(config(num_server_rounds=9, resume=True, server_optimizer="fedadam"))
    run(config(num_server_rounds=4, resume=True))


@pytest.mark.parametrize(
    "command",
    [
        "run --rounds 1 --run-dir {}", "run --rounds 1 --run-dir {}/x",
        "run --rounds 1 --tensorboard {}/x",
        "report run --page {}/x/page.html", "real --nodes 3 --run-dir {}/x", "figure 5 --out {}/x",
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_ends_a_command_with_a_sentence(
    config, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    if command.startswith("report"):
        run(config(num_server_rounds=1))
    result = CliRunner().invoke(app, command.format(tmp_path / "file").split())
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    # The frame around a usage error breaks long paths.
    assert str(tmp_path / "file") in re.sub(r"[│╭╮╰╯─\s]", "", result.output)


def test_a_full_disk_ends_a_command_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with files_of_at_most(10_000):
        result = CliRunner().invoke(app, ["run", "--rounds", "100", "--run-dir", "full"])
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    *_, last = result.output.strip().splitlines()
    assert last.startswith("JournalError: round ")
    assert last.endswith("full/journal.jsonl cannot be written: File too large")
    assert read_journal("full/journal.jsonl")
    assert read_model(Path("full"))[0] >= 0


@pytest.mark.parametrize("api", ["message", "fit"])
def test_rounds_for_which_nobody_is_connected_are_in_the_journal_and_can_be_gone_on_from(
    config, tmp_path, monkeypatch, api
):
    made = {"num_clients": 5, "api": api, "round_timeout": 0.2}
    with monkeypatch.context() as patch:
        patch.setattr(server_app, "name_nodes", lambda _: ({i: i for i in range(5)}, []))
        patch.setattr(server_app, "NODES_TIMEOUT", 0.0)
        patch.setattr(InProcessGrid, "get_node_ids", lambda _: [])
        run(config(**made))
    journal = read_journal(tmp_path / "run/journal.jsonl")
    assert [report.server_round for report in journal] == [1, 2, 3]
    assert {(report.note, report.stepped) for report in journal} == {
        ("nobody was connected", False)
    }
    run(config(num_server_rounds=4, resume=True, **made))
    (*_, last) = read_journal(tmp_path / "run/journal.jsonl")
    assert (last.server_round, last.received, last.stepped) == (4, (0, 1, 2, 3, 4), True)


def test_a_journal_of_a_run_says_when_its_rounds_were(config, tmp_path):
    run(config())
    lines = (tmp_path / "run/journal.jsonl").read_text().splitlines()
    times = [json.loads(line)["time"] for line in lines]
    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)
