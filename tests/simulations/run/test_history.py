import math
import time

import numpy as np
import pytest

from simulations.run.history import (
    HistoryWriter,
    RoundRecord,
    final_window,
    read_history,
    read_model,
    window_mean,
)

MODEL = {"w": np.arange(3.0), "b": np.ones(2, np.float32)}


def record(round_, accuracy=None):
    return RoundRecord(round_, accuracy, accuracy, (3, 1), 1, {"2": "holds NaN"}, True)


def test_what_is_written_is_read_back(tmp_path):
    records = [record(0, 0.5), record(1), record(2, 0.75)]
    with HistoryWriter(tmp_path / "run", {"f": 1}) as history:
        for item in records:
            history.append(item, MODEL)
    assert read_history(tmp_path / "run") == records


def test_a_round_can_be_read_while_the_run_goes_on(tmp_path):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(record(0, 0.5), MODEL)
        assert len(read_history(tmp_path)) == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_written_as_null(tmp_path, loss):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(RoundRecord(1, 0.1, loss), MODEL)
    assert read_history(tmp_path)[0].loss is None


def test_the_last_model_is_read_back_with_its_round(tmp_path):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(record(6), {"w": np.zeros(3)})
        history.append(record(7), MODEL)
    server_round, model = read_model(tmp_path)
    assert server_round == 7
    assert list(model) == list(MODEL)
    np.testing.assert_array_equal(model["w"], MODEL["w"])
    assert model["b"].dtype == np.float32


def test_between_saves_the_model_waits_and_the_last_one_is_saved(tmp_path, monkeypatch):
    clock = iter([0.0, 0.0, 0.5, 1.25, 1.25, 1.5, 9.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    saved = []
    with HistoryWriter(tmp_path, {}) as history:
        for round_ in range(4):
            history.append(record(round_), MODEL)
            saved.append(read_model(tmp_path)[0])
    assert saved == [0, 0, 2, 2]
    assert read_model(tmp_path)[0] == 3


def test_a_crash_between_round_and_model_leaves_the_round_without_a_gap(tmp_path, monkeypatch):
    def crash(*_, **__):
        raise OSError("the lights went out")

    history = HistoryWriter(tmp_path, {})
    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(OSError, match="lights"):
        history.append(record(0), MODEL)
    assert read_history(tmp_path) == [record(0)]


def test_equal_models_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        with HistoryWriter(tmp_path / name, {}) as history:
            history.append(record(1), MODEL)
    assert (tmp_path / "a/model.npz").read_bytes() == (tmp_path / "b/model.npz").read_bytes()


def test_a_line_that_a_crash_tore_is_left_out(tmp_path):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(record(0), MODEL)
        history.append(record(1), MODEL)
    file = tmp_path / "history.jsonl"
    file.write_text(file.read_text()[:-5])
    assert read_history(tmp_path) == [record(0)]


def test_a_run_that_goes_on_keeps_its_past_rounds(tmp_path):
    past = [record(0), record(1)]
    with HistoryWriter(tmp_path, {}, past) as history:
        history.append(record(2), MODEL)
    assert read_history(tmp_path) == [*past, record(2)]


def test_window_mean_takes_the_evaluated_rounds_with_both_ends():
    history = [record(0, 0.0), record(1, 0.5), record(2), record(3, 0.75), record(4, 1.0)]
    assert window_mean(history, 1, 3) == 0.625


def test_a_window_without_an_evaluated_round_is_an_error():
    with pytest.raises(ValueError, match="no evaluated round from 2 to 2"):
        window_mean([record(2)], 2, 2)


@pytest.mark.parametrize(("rounds", "window"), [(1, (1, 1)), (4, (4, 4)), (500, (401, 500))])
def test_the_final_window_is_the_last_fifth_and_never_empty(rounds, window):
    assert final_window(rounds) == window
