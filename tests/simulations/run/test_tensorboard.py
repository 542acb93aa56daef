import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flwr_krum.journal import read_journal
from simulations.engines.engines import run
from simulations.run.history import read_history


def read(folder):
    """Return the scalars of a folder as TensorBoard reads them: {tag: {round: value}}."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("api", ["message", "fit"])
def test_tensorboard_shows_what_the_history_and_the_journal_hold(config, tmp_path, api):
    board = tmp_path / "board"
    options = {"num_clients": 7, "f": 2, "attack": "malformed", "rule": "multi-krum", "api": api}
    run(config(tensorboard=str(board), evaluate_every=2, **options))
    history, journal = read_history(tmp_path / "run"), read_journal(tmp_path / "run/journal.jsonl")
    scalars = read(board)
    measured = [record for record in history if record.accuracy is not None]
    assert [record.round for record in measured] == [0, 2, 3]
    assert scalars["test/accuracy"] == pytest.approx({r.round: r.accuracy for r in measured})
    assert scalars["test/loss"] == pytest.approx({r.round: r.loss for r in measured})
    assert scalars["selected/clients"] == dict.fromkeys((1, 2, 3), 4.0)  # five replies bear one
    assert scalars["selected/byzantine"] == dict.fromkeys((1, 2, 3), 0.0)
    assert scalars["replies/refused"] == dict.fromkeys((1, 2, 3), 2.0)
    verdicts = {"holds": 1.0, "does not hold": 0.0, "cannot be known": -1.0}
    assert scalars["guarantee/guarantee"] == {
        report.server_round: verdicts[report.guarantee.verdict] for report in journal
    }
    sines = {r.server_round: r.guarantee.sin_alpha for r in journal if r.guarantee.sin_alpha}
    assert scalars.get("guarantee/sin-alpha", {}) == pytest.approx(sines)
    losses = {report.server_round: report.metrics["loss"] for report in journal}
    assert scalars["clients/loss"] == pytest.approx(losses)


def test_byzantine_clients_that_are_selected_are_counted(config, tmp_path):
    options = {"num_clients": 7, "f": 2, "attack": "gaussian", "rule": "average"}
    run(config(tensorboard=str(tmp_path / "board"), **options))
    assert read(tmp_path / "board")["selected/byzantine"] == dict.fromkeys((1, 2, 3), 2.0)


def test_a_run_that_goes_on_continues_the_curves_and_a_new_one_hides_the_old(config, tmp_path):
    board = tmp_path / "board"
    run(config(num_server_rounds=2, tensorboard=str(board)))
    begun = read(board)["test/loss"]
    run(config(num_server_rounds=4, tensorboard=str(board), resume=True))
    whole = read(board)["test/loss"]
    assert list(whole) == [0, 1, 2, 3, 4]
    assert {t: whole[t] for t in begun} == begun
    run(config(num_server_rounds=1, tensorboard=str(board), seed=5))
    again = read(board)["test/loss"]
    assert list(again) == [0, 1]
    assert again[0] != begun[0]


def test_without_the_package_the_extra_is_named_and_no_run_is_replaced(
    config, tmp_path, monkeypatch
):
    run(config())
    before = Path(tmp_path / "run/history.jsonl").read_bytes()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[tensorboard\]'"):
        run(config(tensorboard=str(tmp_path / "board"), seed=5))
    assert Path(tmp_path / "run/history.jsonl").read_bytes() == before
    assert (tmp_path / "run/model.npz").exists()
    run(config(seed=5))  # who does not ask for it does not need it
    assert not (tmp_path / "board").exists()


def test_a_folder_that_is_none_is_named(config):
    with pytest.raises(ValueError, match="tensorboard is True, expected the path of a folder"):
        config(tensorboard=True)
