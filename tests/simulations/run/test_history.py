import io
import json
import math
import time
import zipfile

import numpy as np
import pytest

from flwr_krum.lines import FileError
from simulations.run.history import (
    HistoryWriter,
    RoundRecord,
    final_window,
    read_config,
    read_history,
    read_model,
    window_mean,
)
from tests.full_disk import files_of_at_most

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


@pytest.mark.parametrize(
    "line",
    [
        b"garbage", b"{}", b"[]", b"5", b"null", b"\xff\xfe", b"\0" * 1000, b"[" * 100_000,
        b'{"round": 1}', b'{"round": "1", "accuracy": null, "loss": null, "selected": []}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_line_is_named_by_file_and_number(tmp_path, number, line):
    with HistoryWriter(tmp_path, {}) as history:
        for round_ in range(3):
            history.append(record(round_), MODEL)
    file = tmp_path / "history.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[number - 1] = line
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(FileError, match=rf"history\.jsonl, line {number}: not a round's record"):
        read_history(tmp_path)


def test_a_line_of_before_there_were_backdoors_is_read(tmp_path):
    whole = vars(record(1, 0.5))
    of_before = {key: value for key, value in whole.items() if key != "attack_success"}
    (tmp_path / "history.jsonl").write_text(json.dumps(of_before) + "\n")
    assert read_history(tmp_path) == [record(1, 0.5)]


@pytest.mark.parametrize("name", list(vars(record(1))))
def test_a_line_without_one_of_its_fields_or_with_another_kind_is_damaged(tmp_path, name):
    whole = vars(record(1, 0.5))
    torn = {key: value for key, value in whole.items() if key != name}
    for damaged in (*[torn] * (name not in ("attack_success", "factor")), {**whole, name: "text"}):
        (tmp_path / "history.jsonl").write_text(json.dumps(damaged) + "\n")
        with pytest.raises(FileError, match="line 1: not a round's record"):
            read_history(tmp_path)


def archive(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def packed(name, content):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr(name, content)
    return written.getvalue()


HUGE = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000000,), }"
WHOLE = archive(**{"server-round": np.array(3), "w": np.arange(1000.0)})


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 5000, b"garbage", WHOLE[:50], WHOLE[:-200], WHOLE[: len(WHOLE) // 2],
        WHOLE[:2000] + b"\xff" * 100 + WHOLE[2100:], archive(w=np.zeros(2)),
        archive(**{"server-round": np.array("three")}), archive(**{"server-round": np.zeros(2)}),
        packed("server-round.npy", b"no array"), packed("server-round", b"3"),
        archive(**{"server-round": np.array(-1)}), archive(**{"server-round": np.array(3.5)}),
        packed("server-round.npy", b"\x93NUMPY\x01\x00\x76\x00" + HUGE.ljust(117) + b"\n"),
        packed("server-round.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': oops}\n"),
    ],
)  # fmt: skip
def test_a_damaged_model_is_named_by_its_file(tmp_path, content):
    (tmp_path / "model.npz").write_bytes(content)
    with pytest.raises(FileError, match=r"model\.npz: not the model of a run: "):
        read_model(tmp_path)


def test_a_model_that_runs_code_when_it_is_read_is_not_read(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    (tmp_path / "model.npz").write_bytes(archive(**{"server-round": np.array(1), "w": objects}))
    with pytest.raises(FileError, match=r"model\.npz: not the model of a run: "):
        read_model(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "\0\0"])
def test_a_damaged_configuration_is_named_by_its_file(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(FileError, match=r"config\.json: not a run's configuration: "):
        read_config(tmp_path)


def test_on_a_full_disk_the_rounds_and_the_model_before_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("simulations.run.history.SAVE_EVERY", 0.0)
    history = HistoryWriter(tmp_path, {})
    history.append(record(0), MODEL)
    history.append(record(1), MODEL)
    size = (tmp_path / "history.jsonl").stat().st_size
    with files_of_at_most(size + 10):
        with pytest.raises(FileError, match=r"history\.jsonl cannot be written: File too large"):
            history.append(record(2), MODEL)
        history._unsaved = 1, MODEL
        with pytest.raises(FileError, match=r"model\.npz cannot be written: File too large"):
            history.__exit__()
        assert read_history(tmp_path) == [record(0), record(1)]
        assert read_model(tmp_path)[0] == 1
        with pytest.raises(FileError, match=r"history\.jsonl cannot be written"):
            HistoryWriter(tmp_path, {}, [record(0), record(1), record(2)])
    assert read_history(tmp_path) == [record(0), record(1)]
    history.append(record(2), MODEL)
    assert read_history(tmp_path) == [record(0), record(1), record(2)]
    assert read_model(tmp_path)[0] == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json", "history.jsonl", "model.npz",
    ]  # fmt: skip


def test_two_that_write_one_history_do_not_write_over_each_other(tmp_path):
    first, second = HistoryWriter(tmp_path, {}), HistoryWriter(tmp_path, {})
    first.append(record(0), MODEL)
    with pytest.raises(FileError, match="somebody else writes it as well"):
        second.append(record(0), MODEL)
    first.append(record(1), MODEL)
    assert b"\0" not in (tmp_path / "history.jsonl").read_bytes()
    assert read_history(tmp_path) == [record(0), record(1)]


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
