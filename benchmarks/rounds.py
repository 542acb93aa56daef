"""Seconds of rounds on a real SuperLink with stock SuperNodes, Flower's and this plugin's.

All are processes of this machine, with TLS and registered keys, as `python -m simulations real`
starts them. Programs are forked from one that has loaded Flower, and are looked for every 0.05
seconds; nothing of Flower is changed. Clients answer at once: what is left is the waiting, and the
way of the bytes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.table import Table

from benchmarks import rounds_app
from simulations.real.federation import COMPLETED, Federation, not_completed
from simulations.real.processes import ROOT

WAYS = ("Flower's MultiKrum", "fetched whole", "lane=True")
"""What is measured: Flower alone, and this package without and with the lane."""

_POLL = 2.0
"""Seconds between two looks at the status of a run: each costs the nodes some of a core."""

_PROJECT = """\
[project]
name = "rounds"
version = "1.0.0"
description = "What a round takes"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "flwr-krum"

[tool.flwr.app.components]
serverapp = "benchmarks.rounds_app:server"
clientapp = "benchmarks.rounds_app:client"

[tool.flwr.app.config]
nodes = 0
f = 0
rounds = 0
frozen = 0
own = 0
is-flowers = false
lane = false
result = ""
"""


@dataclass(frozen=True)
class Round:
    """What one round took.

    Attributes
    ----------
    way : str
    seconds : float
        Of the whole round.
    came, chosen : float
        From when the last reply was made until all were in the server's hands, and until the new
        model was there.
    replies : int
    fetched : int
        Bytes, where they were fetched object by object.
    """

    way: str
    seconds: float
    came: float
    chosen: float
    replies: int
    fetched: int = 0


class _Prompt(Federation):
    """A federation whose programs are looked for twenty times a second."""

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process of the federation."""
        return {**super().env, "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05"}


def measured(
    folder: Path, ways: Iterable[str], nodes: int, f: int, rounds: int, frozen: int, own: int
) -> Iterator[Round]:
    """Yield the rounds of the ways, each a run of its own on the same nodes.

    The first round of a run is left out: it starts programs.

    Parameters
    ----------
    ways : names of `WAYS`
        Who is named twice has two runs.
    folder : Path
        Gets keys and logs, in a folder of their own that is there no more afterwards.
    frozen, own : int
        float32 parameters that all replies have in common, and of each reply's own.

    Raises
    ------
    ValueError
        If so many nodes are too few for f.
    FederationError
        If a run does not end as it should.
    """
    if nodes < 2 * f + 3:
        raise ValueError(f"nodes is {nodes}, expected at least 2f + 3 = {2 * f + 3}")
    with TemporaryDirectory(prefix="rounds-", dir=folder) as made:
        place = Path(made).resolve()
        with _Prompt(place, [{} for _ in range(nodes)]) as federation:
            federation.wait_until_connected()
            app, result = _app(place / "rounds-app"), place / "result.json"
            for way in ways:
                run_id = federation.submit_app(
                    app,
                    {
                        "nodes": nodes,
                        "f": f,
                        "rounds": rounds,
                        "frozen": frozen,
                        "own": own,
                        "is-flowers": way == WAYS[0],
                        "lane": way == WAYS[2],
                        "result": str(result),
                    },
                )
                _follow(federation, run_id)
                yield from (Round(way, **taken) for taken in json.loads(result.read_text())[1:])


def table(found: Iterable[Round]) -> Table:
    """Return what rounds of each way took."""
    shown = Table(title="Rounds of Multi-Krum on stock SuperNodes, seconds: least, median")
    columns = ("round", "last reply made to all here", "to the new model", "MB fetched", "replies")
    for column in ("", *columns):
        shown.add_column(column, justify="right" if column else "left")
    by_way: dict[str, list[Round]] = {}
    for taken in found:
        by_way.setdefault(taken.way, []).append(taken)
    for way, every in by_way.items():
        cells = [
            f"{min(values):.2f}, {median(values):.2f}"
            for values in (
                [taken.seconds for taken in every],
                [taken.came for taken in every],
                [taken.chosen for taken in every],
            )
        ]
        fetched = median(taken.fetched for taken in every)
        cells.append(f"{fetched / 1e6:.2f}" if fetched else "-")
        shown.add_row(way, *cells, str(min(taken.replies for taken in every)))
    return shown


def _app(folder: Path) -> Path:
    """Make the folder of the app, with this plugin in it."""
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_PROJECT)
    for module in ("__init__.py", Path(rounds_app.__file__).name):
        shutil.copy(ROOT / "benchmarks" / module, folder / "benchmarks")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "flwr_krum", folder / "flwr_krum", ignore=ignored)
    return folder


def _follow(federation: Federation, run_id: str) -> None:
    """Wait until a run is over."""
    while not (status := federation.status(run_id)).startswith("finished"):
        time.sleep(_POLL)
    if status != COMPLETED:
        raise not_completed(status, federation.save_log(run_id))
