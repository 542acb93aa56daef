"""Runs as the report reads them: from their folders, with labels that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr_krum.journal import read_journal
from flwr_krum.report import RoundReport
from simulations.run.config import RunConfig
from simulations.run.history import (
    CONFIG_FILE,
    HISTORY_FILE,
    JOURNAL_FILE,
    RoundRecord,
    read_config,
    read_history,
)
from simulations.run.origin import Origin


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes
    ----------
    label : str
        The folder's name, or its whole path where two runs share the name.
    folder : Path
    config : RunConfig
    history : sequence of RoundRecord
        Evaluations; round 0 is the initial model.
    reports : sequence of RoundReport
        The journal, from round 1.
    origin : Origin, optional
    """

    label: str
    folder: Path
    config: RunConfig
    history: Sequence[RoundRecord]
    reports: Sequence[RoundReport]
    origin: Origin | None

    @property
    def byzantine(self) -> frozenset[int]:
        """The clients that attack."""
        return self.config.byzantine_clients()


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; a run that is still going is read up to its last whole round.

    Raises
    ------
    ValueError
        If a folder holds no run, or one that cannot be read; JournalError if its journal is
        damaged.
    """
    names = [folder.resolve().name for folder in folders]
    unique = [
        name if names.count(name) == 1 else str(folder)
        for name, folder in zip(names, folders, strict=True)
    ]
    return [_read_run(folder, label) for folder, label in zip(folders, unique, strict=True)]


def _read_run(folder: Path, label: str) -> Run:
    for name in (CONFIG_FILE, HISTORY_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not the folder of a run: it holds no {name}")
    journal = folder / JOURNAL_FILE
    try:
        return Run(
            label=label,
            folder=folder,
            config=RunConfig.from_record(read_config(folder)),
            history=read_history(folder),
            # A run has none before its first round is over.
            reports=read_journal(journal) if journal.exists() else [],
            origin=Origin.read(folder),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds a run that cannot be read: {error}") from error
