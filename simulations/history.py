"""The history of a run: one JSON line per round, written as the run goes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

HISTORY_FILE = "history.jsonl"
MODEL_FILE = "model.npz"
CONFIG_FILE = "config.json"


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
    """Writes a run's configuration, rounds and final model into a folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        (folder / MODEL_FILE).unlink(missing_ok=True)
        self._folder = folder
        self._file = (folder / HISTORY_FILE).open("w")

    def append(self, record: RoundRecord) -> None:
        """Write one round; it is on its way to the disk when this returns."""
        # JSON has no NaN: a loss that is none is null, as if it had not been measured.
        values = asdict(record)
        if values["loss"] is not None and not np.isfinite(values["loss"]):
            values["loss"] = None
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def save_model(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the model's arrays by name; equal models give equal bytes."""
        np.savez(self._folder / MODEL_FILE, **arrays)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_history(folder: Path) -> list[RoundRecord]:
    """Read the rounds of a run.

    Raises
    ------
    FileNotFoundError
        If the folder holds no history.
    """
    with (folder / HISTORY_FILE).open() as lines:
        return [_record(json.loads(line)) for line in lines]


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
