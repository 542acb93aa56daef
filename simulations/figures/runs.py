"""The rows that the runs of a figure give."""

from __future__ import annotations

from collections.abc import Iterable

from clients.tasks import shapes_of
from simulations.engines.kept import evaluations
from simulations.figures.experiment import Cell
from simulations.figures.rows import Row
from simulations.run.config import RunConfig
from simulations.run.history import RoundRecord


def gather(figure: str, cells: Iterable[Cell]) -> list[Row]:
    """Read the rows of finished runs, in the order of the cells.

    Raises
    ------
    RuntimeError
        If nobody answered in an evaluated round.
    """
    return [
        Row(
            figure=figure,
            panel=cell.panel,
            curve=cell.curve,
            swept=cell.swept,
            batch=cell.config.settings.batch_size,
            seed=cell.config.settings.seed,
            fold=cell.config.settings.fold,
            round=record.round,
            accuracy=record.accuracy if record.loss is not None else chance,
            loss=record.loss,
        )
        for cell in cells
        for chance in (1.0 / shapes_of(cell.config.settings.task).classes,)
        for record in _answered(cell.config)
        if record.accuracy is not None
    ]


def _answered(config: RunConfig) -> list[RoundRecord]:
    records = evaluations(config)
    for record in records:
        if record.round and not (record.selected or record.refused):
            raise RuntimeError(
                f"{config.run_dir}: nobody answered in round {record.round}; its journal says why"
            )
    return records
