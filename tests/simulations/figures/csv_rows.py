"""The rows of a figure, read back from its CSV file."""

import csv

from simulations.figures.rows import Row


def read_rows(path):
    """Return every row of a file; an empty number is None."""
    with path.open(newline="") as file:
        return [Row(**{name: KINDS[name](cell) for name, cell in line.items()})
                for line in csv.DictReader(file)]  # fmt: skip


def _number(cell):
    return float(cell) if cell else None


KINDS = {
    **dict.fromkeys(("figure", "panel", "curve"), str),
    **dict.fromkeys(("batch", "seed", "fold", "round"), int),
    **dict.fromkeys(("swept", "accuracy", "loss"), _number),
}
