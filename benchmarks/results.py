"""What was measured, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One contestant in one cell: seconds of every run, or why there are none.

    Attributes
    ----------
    task : str
        A rule, "aggregate_fit", "aggregate_train" or "floor".
    n, d, layers : int
    threads : int
        Threads that BLAS, OpenMP and torch had.
    name : str
        The contestant.
    cpu, wall : seconds of each run
    extra : int or None
        Peak bytes beyond those before the first run; its result is among them.
    same : bool or None
        Whether the result is that of this package's numpy path.
    skipped : str
        Why it did not run, or how it failed.
    """

    task: str
    n: int
    d: int
    layers: int
    threads: int
    name: str
    cpu: tuple[float, ...] = ()
    wall: tuple[float, ...] = ()
    extra: int | None = None
    same: bool | None = None
    skipped: str = ""


@dataclass(frozen=True)
class Growth:
    """Exponent of a path's time in n or d, with the half-width of its 95 % interval."""

    name: str
    over: str
    sizes: tuple[int, ...]
    fixed: int
    seconds: tuple[float, ...]
    exponent: float
    half_width: float


@dataclass
class Report:
    """Everything that one run of the benchmarks found, and where it ran."""

    machine: dict[str, str]
    absent: dict[str, str]
    """Contestants that could not take part, and why."""
    results: list[Result] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    cores: int = 1
    flops: float = 0.0
    """Multiplications and additions per second of one core in a float32 matrix product."""

    def cell(self, task: str, n: int, d: int, threads: int = 1) -> dict[str, Result]:
        """Return the results of one cell by contestant; of several models, the last."""
        return {r.name: r for r in self.select(task, threads) if (r.n, r.d) == (n, d)}

    def select(self, task: str, threads: int = 1) -> Iterator[Result]:
        """Yield the results of one task."""
        return (r for r in self.results if r.task == task and r.threads == threads)

    def cells(self, task: str, threads: int = 1) -> list[tuple[int, int]]:
        """Return the sizes (n, d) of one task, in their order."""
        return list(dict.fromkeys((r.n, r.d) for r in self.select(task, threads)))

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a report back.

        Raises
        ------
        ValueError
            If the file holds another thing.
        """
        try:
            data = json.loads(path.read_text())
            data["results"] = [Result(**_tuples(item)) for item in data["results"]]
            data["growths"] = [Growth(**_tuples(item)) for item in data["growths"]]
            return cls(**data)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not the file of a run of the benchmarks") from error


def _tuples(item: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
