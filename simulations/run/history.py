"""The history of a run: one JSON line per round, written as the run goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

HISTORY_FILE = "history.jsonl"
MODEL_FILE = "model.npz"
CONFIG_FILE = "config.json"
JOURNAL_FILE = "journal.jsonl"
SAVE_EVERY = 1.0
"""Seconds of work that a run which is killed may have to repeat: a model costs more to save than a
small round to run."""

ROUND = "server-round"
"""Name of the array that holds a model's round, in the file of the model."""


@dataclass(frozen=True)
class RoundRecord:
    """One round as the laboratory sees it.

    Attributes
    ----------
    round : int
        0 is the initial model.
    accuracy, loss : float or None
        On the test set; None in rounds that are not evaluated.
    selected : tuple of int
        Partition ids of the selected clients, best first.
    byzantine_selected : int
        How many of them attack.
    refused : mapping of partition id (as text) to reason
    stepped : bool
        Whether the global model moved.
    """

    round: int
    accuracy: float | None
    loss: float | None
    selected: tuple[int, ...] = ()
    byzantine_selected: int = 0
    refused: Mapping[str, str] | None = None
    stepped: bool = False


class HistoryWriter:
    """Writes a run's configuration, rounds and model into a folder, as the run goes.

    Every round is on its way to the disk when it ends, the model every second and with the last
    round. Whoever goes on from a model repeats the rounds after it, to the same end.

    Parameters
    ----------
    folder : Path
        The run folder; it is made.
    config : mapping
        The run config, for the record.
    past : sequence of RoundRecord
        Rounds that were done before, when a run goes on.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], past: Sequence[RoundRecord] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        self._folder = folder
        self._file = (folder / HISTORY_FILE).open("w")
        self._unsaved: tuple[int, Mapping[str, NDArray[Any]]] | None = None
        self._saved_at = -SAVE_EVERY
        for record in past:
            self._write(record)

    def append(self, record: RoundRecord, model: Mapping[str, NDArray[Any]]) -> None:
        """Write one round, and its model if none has been saved for a second."""
        # The round comes first: a model without it would leave a gap for whoever goes on.
        self._write(record)
        self._unsaved = record.round, model
        if time.monotonic() - self._saved_at >= SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        if self._unsaved is not None:
            _save_model(self._folder / MODEL_FILE, *self._unsaved)
            self._unsaved = None
            self._saved_at = time.monotonic()

    def _write(self, record: RoundRecord) -> None:
        # JSON has no NaN: a loss that is none is null, as if it had not been measured.
        values = dict(vars(record))
        if values["loss"] is not None and not np.isfinite(values["loss"]):
            values["loss"] = None
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()
        self._file.close()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the run config that a run was started with."""
    config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
    return config


def _save_model(path: Path, server_round: int, model: Mapping[str, NDArray[Any]]) -> None:
    """Replace a model file in one step, so that a crash leaves the old one or the new one."""
    beside = path.with_name(f"new-{path.name}")
    np.savez(beside, **{ROUND: np.array(server_round)}, **model)  # type: ignore[arg-type]
    beside.replace(path)


def read_model(folder: Path) -> tuple[int, dict[str, NDArray[Any]]]:
    """Read the last model of a run: its round, and its arrays by name.

    Raises
    ------
    FileNotFoundError
        If the folder holds no model.
    """
    with np.load(folder / MODEL_FILE, allow_pickle=False) as arrays:
        model = {key: arrays[key] for key in arrays}
    return int(model.pop(ROUND)), model


def read_history(folder: Path) -> list[RoundRecord]:
    """Read the rounds of a run.

    Raises
    ------
    FileNotFoundError
        If the folder holds no history.
    """
    # A line without its break is one that a crash tore.
    text = (folder / HISTORY_FILE).read_text()
    return [_record(json.loads(line)) for line in text.split("\n")[:-1]]


def _record(values: dict[str, Any]) -> RoundRecord:
    return RoundRecord(**{**values, "selected": tuple(values["selected"])})


def evaluated(history: Sequence[RoundRecord]) -> Iterator[tuple[int, float]]:
    """Yield (round, accuracy) of the rounds that were evaluated."""
    for record in history:
        if record.accuracy is not None:
            yield record.round, record.accuracy


def window_mean(history: Sequence[RoundRecord], first: int, last: int) -> float:
    """Return the mean accuracy over rounds first to last, both included.

    Raises
    ------
    ValueError
        If none of these rounds was evaluated.
    """
    values = [accuracy for round_, accuracy in evaluated(history) if first <= round_ <= last]
    if not values:
        raise ValueError(f"no evaluated round from {first} to {last}")
    return float(np.mean(values))


def final_window(rounds: int) -> tuple[int, int]:
    """Return the first and last round of the last fifth of a run, at least its last round."""
    return rounds - max(1, rounds // 5) + 1, rounds
