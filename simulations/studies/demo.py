"""The demonstration: five rules under a Gaussian attack, beside averaging in peace.

Figure 5 of the paper's supplement in small: spam filtering, mini-batches of 3, a third of the
clients Byzantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulations.engines.parallel import run_all
from simulations.run.config import RunConfig
from simulations.run.history import RoundRecord, final_window, read_history, window_mean
from simulations.show.plots import accuracy_curves
from simulations.show.terminal import add_run, progress_bar, show

PEACE = "average, no attack"
PAPER = ("average", "krum", "multi-krum", "medoid", "1-p-krum")
"""Averaging and the paper's own rules."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run: mean accuracy over the last fifth, and attackers selected."""

    label: str
    accuracy: float
    byzantine_share: float


def demo(folder: Path, rounds: int, seed: int) -> list[Outcome]:
    """Run the six federations, print a table, and save the accuracy curves.

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
    list of Outcome, in the order of the table
    """
    configs = {
        label: RunConfig.from_config(
            {
                **own,
                "num-server-rounds": rounds,
                "seed": seed,
                "f": 6,
                "run-dir": str(folder / slug),
            }
        )
        for label, slug, own in _runs()
    }
    with progress_bar() as progress:
        lines = {label: add_run(progress, label, rounds) for label in configs}
        run_all(configs, observer=lambda label, record: show(progress, lines[label], record))
    histories = {label: read_history(Path(config.run_dir)) for label, config in configs.items()}
    outcomes = [_outcome(label, history, rounds) for label, history in histories.items()]
    picture = folder / "accuracy.png"
    title = "Spambase, 20 clients, 6 of them Gaussian (variance 200), mini-batch 3"
    accuracy_curves(histories, title, picture)
    Console().print(_table(outcomes, rounds), f"picture: {picture}", sep="\n")
    return outcomes


def _runs() -> list[tuple[str, str, dict[str, Any]]]:
    peace = (PEACE, "average-no-attack", {"rule": "average", "attack": "none"})
    return [peace, *((rule, rule, {"rule": rule, "attack": "gaussian"}) for rule in PAPER)]


def _outcome(label: str, history: list[RoundRecord], rounds: int) -> Outcome:
    chosen = sum(len(record.selected) for record in history)
    hostile = sum(record.byzantine_selected for record in history)
    accuracy = window_mean(history, *final_window(rounds))
    return Outcome(label, accuracy, hostile / chosen if chosen else 0.0)


def _table(outcomes: list[Outcome], rounds: int) -> Table:
    table = Table(title="A third of the clients sends noise")
    table.add_column("rule")
    first, last = final_window(rounds)
    table.add_column(f"accuracy, rounds {first} to {last}", justify="right")
    table.add_column("attackers among the selected", justify="right")
    for outcome in outcomes:
        table.add_row(outcome.label, f"{outcome.accuracy:.3f}", f"{outcome.byzantine_share:.0%}")
    return table
