"""Rounds as TensorBoard scalars, with the writer that torch and tensorboard keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from flwr_krum.lines import writing
from flwr_krum.report import RoundReport
from simulations.run.history import RoundRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_SECONDS = 10
"""Seconds after which a scalar is in the file, for whoever watches a run."""


def writer_for(folder: str) -> type[SummaryWriter]:
    """Return the class of the writer; imported here, as only who asks for it needs the extra.

    Raises
    ------
    ValueError
        If the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"tensorboard is {folder!r}, but the package is not installed: "
            "pip install '.[tensorboard]'"
        ) from error
    return SummaryWriter


class Scalars:
    """Writes rounds into a folder that `tensorboard --logdir` reads, as the run goes.

    Parameters
    ----------
    folder : str
        Gets one event file. TensorBoard hides what an older run left there from round ``first``.
    first : int (default: 0)
        The first round that this run writes.

    Raises
    ------
    ValueError
        As for `writer_for`.
    FileError
        If the folder cannot be written, also later.
    """

    def __init__(self, folder: str, first: int = 0) -> None:
        writer = writer_for(folder)
        self._folder = Path(folder)
        with writing(self._folder):
            self._writer = writer(folder, purge_step=first, flush_secs=FLUSH_SECONDS)

    def add(self, record: RoundRecord, report: RoundReport | None) -> None:
        """Write one round; the initial model has no report."""
        with writing(self._folder):
            for tag, value in _scalars(record, report):
                self._writer.add_scalar(tag, value, record.round)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self._folder):
            self._writer.close()


def _scalars(record: RoundRecord, report: RoundReport | None) -> Iterator[tuple[str, float]]:
    if record.accuracy is not None:
        yield "test/accuracy", record.accuracy
    if record.loss is not None:
        yield "test/loss", record.loss
    if record.attack_success is not None:
        yield "test/attack-success", record.attack_success
    if report is None:
        return
    yield "selected/clients", len(report.selected)
    yield "selected/byzantine", record.byzantine_selected
    yield "replies/refused", len(report.refused)
    yield "replies/failed", len(report.failed)
    yield "replies/silent", len(report.silent)
    yield "replies/late", len(report.late)
    for name, number in report.guarantee_metrics().items():
        yield f"guarantee/{name}", number
    for name, metric in report.metrics.items():
        if isinstance(metric, float):
            yield f"clients/{name}", metric
