"""What a rule makes of a few rows, quickly: in float64, without layers or exact order."""

from __future__ import annotations

from functools import cached_property

from flwr_krum.attacks.search import window_mean
from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.ranking import Contrast, Ranking, Score, rank_as_rounded
from flwr_krum.kernel.sorting import Window
from flwr_krum.rules import Rule


def aggregate_of(rule: Rule, rows: Float64) -> Float64:
    """Return what a rule makes of rows (n, d), but for the order of what is nearly tied."""
    choice = rule.choose(PlainGeometry(rows), 1)
    if isinstance(choice.window, Window):
        return window_mean(choice.mix @ rows, choice.window)
    mean: Float64 = choice.mix[0] @ rows
    return mean


class PlainGeometry(Geometry):
    """The geometry of a few rows about the origin, in float64."""

    server_rows = ()
    scale = 1.0

    def __init__(self, rows: Float64) -> None:
        self.n = len(rows)
        self._rows = rows

    @cached_property
    def all_products(self) -> Float64:
        """Inner products of the rows."""
        products: Float64 = self._rows @ self._rows.T
        return products

    @cached_property
    def all_squared(self) -> Float64:
        """Squared distances of the rows."""
        squared: Float64 = ((self._rows[:, None] - self._rows) ** 2).sum(axis=2)
        return squared

    def rank(self, score: Score, count: int, contrast: Contrast | None = None) -> Ranking:
        """Return the ``count`` rows of smallest score, as float64 has them."""
        return rank_as_rounded(self.squared, score, count)

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return int(self._rows.shape[1])

    def columns(self, chosen: Indices) -> Float64:
        """Return some coordinates (n, b) of the rows."""
        return self._rows[:, chosen]
