"""Runs as the report reads them: from their folders, with labels that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr_krum.boundary.replies import ClientId
from flwr_krum.journal import read_journal
from flwr_krum.report import RoundReport
from flwr_krum.report_page.shown import Evaluation
from flwr_krum.report_page.texts import labels_of, without_folders
from simulations.run.config import RunConfig
from simulations.run.history import (
    CONFIG_FILE,
    HISTORY_FILE,
    JOURNAL_FILE,
    RoundRecord,
    byzantine_share,
    final_window,
    read_config,
    read_history,
    window_mean,
)
from simulations.run.origin import Origin

ELSEWHERE = ("run-dir", "resume", "data-dir", "tensorboard")
"""Settings that say where a run and its data lie and not what it is."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes
    ----------
    label : str
        The folder's name, with folders before it where two runs share the name.
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
    def what(self) -> str:
        """What the run was, in a line."""
        settings, attackers = self.config.settings, len(self.byzantine)
        attack = f"{attackers} of them {settings.attack}" if attackers else "no attack"
        clients = f"{settings.num_clients} clients"
        return without_folders(f"{self.config.rule} on {settings.task}, {clients}, {attack}")

    @property
    def clients(self) -> Sequence[int]:
        """The partitions, whether or not a round has named them."""
        return range(self.config.settings.num_clients)

    @property
    def byzantine(self) -> frozenset[ClientId]:
        """The clients that attack."""
        return frozenset(self.config.byzantine_clients())

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """How good the model was, as far as it was measured."""
        return [
            Evaluation(record.round, record.accuracy, record.loss)
            for record in self.history
            if record.accuracy is not None
        ]

    @property
    def wanted_rounds(self) -> int:
        """How many rounds the run is to have."""
        return self.config.num_server_rounds

    @property
    def batch_size(self) -> int:
        """The clients' mini-batch."""
        return self.config.settings.batch_size

    @property
    def outcome(self) -> Mapping[str, str]:
        """What came of it, as nobody but a simulation knows."""
        share = byzantine_share(self.byzantine, (report.selected for report in self.reports))
        return {
            "accuracy": self._final_accuracy(),
            "Byzantine selected": "–" if share is None else f"{share:.1%}",
        }

    def _final_accuracy(self) -> str:
        """Return the mean accuracy over the last fifth of the rounds that are done."""
        try:
            return f"{window_mean(self.history, *final_window(len(self.reports))):.4f}"
        except ValueError:  # nothing was evaluated there: the run is young, or was cut short
            return "–"

    @property
    def setup(self) -> Mapping[str, str]:
        """What the run was made of."""
        settings = self.config.settings
        return {
            "n": str(settings.num_clients),
            "f": str(settings.f),
            "rule": without_folders(self.config.rule),
            "attack": without_folders(settings.attack),
        }

    @property
    def settings(self) -> Mapping[str, object]:
        """All settings but those that say where the run lies and not what it is."""
        return {
            key: without_folders(value) if isinstance(value, str) else value
            for key, value in self.config.to_config().items()
            if key not in ELSEWHERE
        }

    @property
    def sources(self) -> Mapping[str, object]:
        """Where the run comes from: folder, date, data and versions."""
        found: dict[str, object] = {"folder": self.folder.resolve().name}
        if self.origin:
            data = without_folders(self.origin.data)
            found |= {"started": self.origin.started, "data": data}
            found |= self.origin.versions
        return found


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; a run that is still going is read up to its last whole round.

    Raises
    ------
    ValueError
        If a folder holds no run, or one that cannot be read; JournalError if its journal is
        damaged.
    """
    labels = labels_of(folders)
    return [_read_run(folder, label) for folder, label in zip(folders, labels, strict=True)]


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
