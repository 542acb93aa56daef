"""The demonstration: the paper's rules under a Gaussian attack, beside averaging in peace.

Figure 5 of the paper's supplement in small: spam filtering, mini-batches of 3, a third of the
clients Byzantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flwr_krum.rules import PAPER
from simulations.engines.parallel import run_all
from simulations.run.config import RunConfig
from simulations.run.history import (
    RoundRecord,
    byzantine_share,
    final_window,
    read_history,
    window_mean,
)
from simulations.show.plots import accuracy_curves
from simulations.show.terminal import add_run, progress_bar, show

PEACE = "average, no attack"
N, F = 20, 6


@dataclass(frozen=True)
class Ending:
    """What became of one run: mean accuracy over the last fifth, and attackers selected."""

    label: str
    accuracy: float
    byzantine_share: float


def demo(folder: Path, rounds: int, seed: int) -> list[Ending]:
    """Run a federation for each rule and one in peace, print a table, and save the curves.

    Parameters
    ----------
    folder : Path
        Gets one run folder each and ``accuracy.png``.
    rounds : int
        Rounds of each run.
    seed : int
        Seed of each run.

    Returns
    -------
    list of Ending, in the order of the table
    """
    configs = {
        label: RunConfig.from_config(
            {
                **own,
                "num-server-rounds": rounds,
                "seed": seed,
                "num-clients": N,
                "f": F,
                "run-dir": str(folder / slug),
            }
        )
        for label, slug, own in _runs()
    }
    with progress_bar() as progress:
        lines = {label: add_run(progress, label, rounds) for label in configs}
        run_all(configs, observer=lambda label, record: show(progress, lines[label], record))
    histories = {label: read_history(Path(config.run_dir)) for label, config in configs.items()}
    endings = [
        _ending(label, config.byzantine_clients(), histories[label], rounds)
        for label, config in configs.items()
    ]
    picture = folder / "accuracy.png"
    title = f"Spambase, {N} clients, {F} of them Gaussian (variance 200), mini-batch 3"
    accuracy_curves(histories, [config.rule for config in configs.values()], title, picture)
    console = Console()
    console.print(_table(endings, rounds))
    console.print(f"picture: {picture}", soft_wrap=True)
    return endings


def _runs() -> list[tuple[str, str, dict[str, Any]]]:
    peace = (PEACE, "average-no-attack", {"rule": "average", "attack": "none"})
    return [peace, *((rule, rule, {"rule": rule, "attack": "gaussian"}) for rule in PAPER)]


def _ending(
    label: str, byzantine: frozenset[int], history: list[RoundRecord], rounds: int
) -> Ending:
    share = byzantine_share(byzantine, (record.selected for record in history))
    return Ending(label, window_mean(history, *final_window(rounds)), share or 0.0)


def _table(endings: list[Ending], rounds: int) -> Table:
    table = Table(title="A third of the clients sends noise")
    table.add_column("rule")
    first, last = final_window(rounds)
    table.add_column(f"accuracy, rounds {first} to {last}", justify="right")
    table.add_column("attackers among the selected", justify="right")
    for ending in endings:
        table.add_row(ending.label, f"{ending.accuracy:.3f}", f"{ending.byzantine_share:.0%}")
    return table
