import math

import numpy as np
import pytest

from simulations.history import HistoryWriter, RoundRecord, read_history, window_mean


def record(round_, accuracy=None):
    return RoundRecord(round_, accuracy, accuracy, (3, 1), 1, {"2": "holds NaN"}, True)


def test_what_is_written_is_read_back(tmp_path):
    records = [record(0, 0.5), record(1), record(2, 0.75)]
    with HistoryWriter(tmp_path / "run", {"f": 1}) as history:
        for item in records:
            history.append(item)
    assert read_history(tmp_path / "run") == records


def test_a_round_can_be_read_while_the_run_goes_on(tmp_path):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(record(0, 0.5))
        assert len(read_history(tmp_path)) == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_written_as_null(tmp_path, loss):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(RoundRecord(1, 0.1, loss))
    assert read_history(tmp_path)[0].loss is None


def test_equal_models_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        with HistoryWriter(tmp_path / name, {}) as history:
            history.save_model({"w": np.arange(3.0), "b": np.ones(2, np.float32)})
    assert (tmp_path / "a/model.npz").read_bytes() == (tmp_path / "b/model.npz").read_bytes()


def test_a_new_run_replaces_the_old_history_and_model(tmp_path):
    with HistoryWriter(tmp_path, {}) as history:
        history.append(record(0, 0.5))
        history.save_model({"w": np.ones(1)})
    with HistoryWriter(tmp_path, {}):
        pass
    assert read_history(tmp_path) == []
    assert not (tmp_path / "model.npz").exists()


def test_window_mean_takes_the_evaluated_rounds_with_both_ends():
    history = [record(0, 0.0), record(1, 0.5), record(2), record(3, 0.75), record(4, 1.0)]
    assert window_mean(history, 1, 3) == 0.625


def test_a_window_without_an_evaluated_round_is_an_error():
    with pytest.raises(ValueError, match="no evaluated round from 2 to 2"):
        window_mean([record(2)], 2, 2)
