"""Runs that are made together: on which data, where they lie, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulations.engines.effort import Effort, make_runs
from simulations.engines.kept import DATA, placed
from simulations.engines.protocol import protocol
from simulations.run.config import RunConfig


@dataclass(frozen=True)
class Provenance:
    """How numbers came to be.

    Attributes
    ----------
    command : str
        The command that makes them again.
    protocol : str
        Data, model and settings in words.
    effort : Effort
    """

    command: str
    protocol: str
    effort: Effort


@dataclass(frozen=True)
class Making:
    """How runs are made, and for what: an arena, a figure, a published table.

    Attributes
    ----------
    out : Path
        Gets ``runs/``, and the files that are made of them.
    data, data_dir : str
        As for `simulations.engines.kept.placed`.
    processes : int
        Runs at a time.
    cluster : str
        As for `simulations.engines.kept.run_missing`.
    """

    out: Path
    data: str = DATA[0]
    data_dir: str = "data"
    processes: int = 1
    cluster: str = ""

    def placed(self, config: RunConfig) -> RunConfig:
        """Return a run in its folder, on the data asked for."""
        return placed(config, self.out / "runs", self.data, self.data_dir)

    def make(
        self, configs: Sequence[RunConfig], stem: Path, label: str, command: str
    ) -> Provenance:
        """Make the runs that are missing, and return how all came to be.

        Parameters
        ----------
        configs : sequence of RunConfig
            In their places.
        stem : Path
            Of the files that are made of them: beside these the effort is kept.
        label : str
            Of the progress bar.
        command : str
            What is said to make them.

        Raises
        ------
        DataError
            If the data are missing or damaged.
        """
        words = protocol(configs, self.data)
        kept = stem.with_suffix(".json")
        effort = make_runs(configs, self.processes, kept, label, self.cluster)
        return Provenance(command, words, effort)
