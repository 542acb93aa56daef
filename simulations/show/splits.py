"""Who holds what, as a table for the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from clients.settings import Settings
from clients.tasks import load_task, shards_of
from simulations.show.colours import PALETTE
from simulations.show.plots import panel, save

Counts = NDArray[np.int64]
"""(clients, labels): how many examples of each label each client holds."""

AREA = 320.0
"""Of the largest dot, in square points, where there are few clients."""


def counts_of(settings: Settings) -> Counts:
    """Return what each client holds that holds data.

    Raises
    ------
    ValueError
        If the data or the split cannot be had.
    """
    task = load_task(settings)
    labels = task.train_y.numpy()
    shards = shards_of(settings, task)
    return np.stack([np.bincount(labels[rows], minlength=task.classes) for rows in shards])


def terminal_table(counts: Counts, title: str, most: int = 30) -> Table:
    """Return a row for each client, up to so many, then the extremes of all."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for column in ("client", "examples", "labels", *map(str, range(counts.shape[1]))):
        table.add_column(column, justify="right", no_wrap=True)
    for client, own in enumerate(counts[:most]):
        cells = (client, own.sum(), np.count_nonzero(own), *own)
        table.add_row(*map(str, cells))
    table.add_section()
    for name, of in (("least", np.min), ("most", np.max)):
        held = np.count_nonzero(counts, axis=1)
        cells = (of(counts.sum(axis=1)), of(held), *of(counts, axis=0))
        table.add_row(name, *map(str, cells))
    return table


def picture(counts: Counts, title: str, path: Path) -> None:
    """Draw a dot for each client and label, its area the number of examples, and save it."""
    figure, axes = panel(title, "client", "label")
    most = int(counts.max())
    scale = AREA * min(1.0, 25 / len(counts)) / most
    clients, labels = np.nonzero(counts)
    axes.scatter(clients, labels, s=counts[clients, labels] * scale, color=PALETTE[2], linewidths=0)
    for examples in sorted({most, max(1, most // 4), max(1, most // 20)}, reverse=True):
        label = f"{examples:,} example{'s' * (examples > 1)}"
        axes.scatter([], [], s=examples * scale, color=PALETTE[2], linewidths=0, label=label)
    axes.set(xlim=(-0.7, len(counts) - 0.3), ylim=(-0.7, counts.shape[1] - 0.3))
    axes.set_yticks(range(counts.shape[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)
