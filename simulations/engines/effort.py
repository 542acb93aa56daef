"""What it took to make runs, kept beside what was made of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulations.engines.kept import missing, run_missing
from simulations.run.config import RunConfig


@dataclass(frozen=True)
class Effort:
    """What runs took: wall-clock and processor time, processes, runs made and found."""

    seconds: float
    processor_seconds: float
    processes: int
    made: int
    found: int
    cluster: str = ""

    def __str__(self) -> str:
        if not self.made:
            return f"{self.found} runs, all made before"
        found = f"; {self.found} were there already" if self.found else ""
        where = (
            f"on {self.processes} processes ({_duration(self.processor_seconds)} of processor time)"
        )
        if self.cluster:  # whose processor time is nobody's to tell
            where = "as tasks of Ray"
        return f"{self.made} runs in {_duration(self.seconds)} {where}{found}"


def make_runs(
    configs: Sequence[RunConfig], processes: int, file: Path, label: str, cluster: str = ""
) -> Effort:
    """Make the runs that are missing and return what all took.

    Parameters
    ----------
    configs : sequence of RunConfig
        In their places, see `simulations.engines.kept.placed`.
    processes : int
        Runs at a time.
    file : Path
        Keeps the effort for when the same runs are only looked at again.
    label : str
        Of the progress bar.
    cluster : str
        As for `simulations.engines.kept.run_missing`.
    """
    wanted = missing(configs)
    runs = sorted({f"{config.run_dir} {config.num_server_rounds}" for config in configs})
    if not wanted and file.exists():
        kept = json.loads(file.read_text())
        if kept.pop("runs") == runs:
            return Effort(**kept)
    begin = _clocks()
    run_missing(wanted, processes, label, cluster)
    seconds, of_processor = (after - before for after, before in zip(_clocks(), begin, strict=True))
    made = len(wanted)
    effort = Effort(seconds, of_processor, processes, made, len(runs) - made, cluster)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**asdict(effort), "runs": runs}) + "\n")
    return effort


def _clocks() -> tuple[float, float]:
    """Return the clock on the wall, and the processor time of processes that have ended."""
    times = os.times()
    return time.monotonic(), times.children_user + times.children_system


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
