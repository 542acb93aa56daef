"""The history of a run: one JSON line per round, written as the run goes."""

from __future__ import annotations

import io
import json
import operator
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flwr_krum.boundary.replies import ClientId
from flwr_krum.lines import FileError, LineWriter, check_is_file, read_lines
from flwr_krum.moments import PREFIX
from flwr_krum.server_rows import STEP_PREFIX
from simulations.run.folder import replace_file

HISTORY_FILE = "history.jsonl"
MODEL_FILE = "model.npz"
CONFIG_FILE = "config.json"
JOURNAL_FILE = "journal.jsonl"
DISTANCES_FILE = "distances.jsonl"
SAVE_EVERY = 1.0
"""Seconds of work that a run which is killed may have to repeat: a model costs more to save than a
small round to run."""

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

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
    attack_success : float or None
        Share of the test examples with a backdoor's trigger, not of its target class, that the
        model takes for it; None where there is no backdoor, or no evaluation.
    factor : float or None
        What the attack chose; None of one that chooses none, and where its clients are not seen.
    """

    round: int
    accuracy: float | None
    loss: float | None
    selected: tuple[int, ...] = ()
    byzantine_selected: int = 0
    refused: Mapping[str, str] | None = None
    stepped: bool = False
    attack_success: float | None = None
    factor: float | None = None


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

    Raises
    ------
    FileError
        If a file cannot be written. It then holds what it held before, and the next call may
        succeed.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], past: Sequence[RoundRecord] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
        check_is_file(folder / HISTORY_FILE)
        begun = b"".join(_line(record) + b"\n" for record in past)
        replace_file(folder / HISTORY_FILE, begun)
        self._folder = folder
        self._file = LineWriter(folder / HISTORY_FILE, len(begun), sync=False)
        self._unsaved: tuple[int, Arrays] | None = None
        self._saved_at = -SAVE_EVERY

    def append(
        self, record: RoundRecord, model: Arrays, state: Arrays = MappingProxyType({})
    ) -> None:
        """Write one round, and its model if none has been saved for a second.

        Parameters
        ----------
        record : RoundRecord
        model : mapping of name to array
        state : mapping of name to array
            What the server remembers of the rounds up to this one, under names that no model has.
        """
        # The round comes first: a model without it would leave a gap for whoever goes on.
        self._file.append(_line(record))
        # In one file, so that the state is never that of another round than the model.
        self._unsaved = record.round, {**model, **state}
        if time.monotonic() - self._saved_at >= SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        if self._unsaved is not None:
            _save_model(self._folder / MODEL_FILE, *self._unsaved)
            self._unsaved = None
            self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()


def _line(record: RoundRecord) -> bytes:
    # JSON has no NaN: a loss that is none is null, as if it had not been measured.
    values = dict(vars(record))
    if values["loss"] is not None and not np.isfinite(values["loss"]):
        values["loss"] = None
    return json.dumps(values).encode()


def _save_model(path: Path, server_round: int, arrays: Arrays) -> None:
    content = io.BytesIO()
    np.savez(content, **{ROUND: np.array(server_round)}, **arrays)  # type: ignore[arg-type]
    replace_file(path, content.getvalue())


def read_config(folder: Path) -> dict[str, Any]:
    """Read the run config that a run was started with.

    Raises
    ------
    FileError
        If the file holds none.
    FileNotFoundError
        If the folder holds no such file.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict):
            raise TypeError(f"it holds {type(config).__name__}, not the keys of a run")
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(f"{path}: not a run's configuration: {error}") from error
    return config


class Saved(NamedTuple):
    """The last model of a run: its round, and its arrays by name; what the server remembers.

    That is an optimizer's ``state``, and the ``last_step``, each empty where there is none.
    """

    server_round: int
    model: dict[str, NDArray[Any]]
    state: dict[str, NDArray[Any]]
    last_step: dict[str, NDArray[Any]]


def read_model(folder: Path) -> tuple[int, dict[str, NDArray[Any]]]:
    """Read the last model of a run: its round, and its arrays by name.

    Raises
    ------
    FileError, FileNotFoundError
        As for `read_saved`.
    """
    saved = read_saved(folder)
    return saved.server_round, saved.model


def read_saved(folder: Path) -> Saved:
    """Read the last model of a run, and what the server remembers beside it.

    Raises
    ------
    FileError
        If the file is damaged.
    FileNotFoundError
        If the folder holds no model.
    """
    path = folder / MODEL_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            model = {key: arrays[key] for key in arrays}
        server_round = operator.index(model.pop(ROUND).item())
        if server_round < 0 or not all(isinstance(array, np.ndarray) for array in model.values()):
            raise ValueError("it holds no round, or what is no array")
        state, last_step = (
            {key: model.pop(key) for key in list(model) if key.startswith(prefix)}
            for prefix in (PREFIX, STEP_PREFIX)
        )
        return Saved(server_round, model, state, last_step)
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        what = f"it holds no {error}" if isinstance(error, KeyError) else error
        raise FileError(f"{path}: not the model of a run: {what}") from error


_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError),
    *(MemoryError, zipfile.BadZipFile, zlib.error),
)
"""What numpy and zipfile raise on a file that is not as they wrote it."""


def read_history(folder: Path) -> list[RoundRecord]:
    """Read the rounds of a run; a last line that a crash tore is left out.

    Raises
    ------
    FileError
        If another line is not a round.
    FileNotFoundError
        If the folder holds no history.
    """
    lines = read_lines(folder / HISTORY_FILE, _record, "a round's record", b'{"round": ')
    return [line.value for line in lines]


_KINDS = {
    "round": int,
    "accuracy": float | int | None,
    "loss": float | int | None,
    "selected": list,
    "byzantine_selected": int,
    "refused": dict | None,
    "stepped": bool,
    "attack_success": float | int | None,
    "factor": float | int | None,
}
"""What the JSON value of a record's field is."""


_UNSAID = {"attack_success": None, "factor": None}
"""What the lines of older runs do not say."""


def _record(line: bytes) -> RoundRecord:
    values = {**_UNSAID, **json.loads(line)}
    for name, kind in _KINDS.items():
        if not isinstance(values[name], kind):
            raise TypeError(f"{name} is {values[name]!r}")
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


def byzantine_share(
    byzantine: Set[ClientId], selections: Iterable[Iterable[ClientId]]
) -> float | None:
    """Return the share of Byzantine clients among the selected of several rounds; None of none."""
    chosen = list(chain.from_iterable(selections))
    return sum(client in byzantine for client in chosen) / len(chosen) if chosen else None
