import contextlib
import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.engines.engines import quiet_flower, run

TINY = (
    *("--rules", "average; krum; bulyan", "--attacks", "alie;omniscient(factor=1e30)"),
    *("-n", "8", "-f", "2", "--seeds", "2", "--rounds", "6", "--evaluate-every", "2"),
)
"""Two rules that can run and one that cannot; without attack and under two."""


@dataclass
class Ring:
    """A folder in which arenas are held in this process, and the runs that they made."""

    folder: Path
    made: list[str] = field(default_factory=list)
    stop_in: int | None = None
    """A round in which whoever runs is torn away."""

    def hold(self, *arguments):
        """Call the command in the folder."""
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.folder):
            patch.setattr("simulations.engines.kept.run_all", self._run_all)
            return CliRunner().invoke(app, ["arena", *arguments])

    def _run_all(self, configs, engine, processes, observer):
        for folder, config in configs.items():
            self.made.append(os.path.basename(folder))
            with quiet_flower():
                run(config, engine, self._observed(folder, observer))

    def _observed(self, folder, observer):
        def observe(record):
            if record.round == self.stop_in and len(self.made) > 3:
                raise KeyboardInterrupt
            observer(folder, record)

        return observe

    def text(self, suffix, name="arena"):
        return (self.folder / f"runs/arena/{name}{suffix}").read_text()

    def rows(self):
        """The rows of the CSV, as texts by column."""
        return list(csv.DictReader(self.text(".csv").splitlines()))


@pytest.fixture
def ring(tmp_path):
    """An empty folder for arenas."""
    return Ring(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny arena, held once: nobody may write into its folder."""
    ring = Ring(tmp_path_factory.mktemp("arena"))
    result = ring.hold(*TINY)
    assert result.exit_code == 0, result.output
    ring.output = result.output
    return ring
