"""The geometry of a round that is over: what is left of its models is how far apart they were."""

from __future__ import annotations

from functools import cached_property

from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.enclosure import Points
from flwr_krum.kernel.geometry import Geometry, within_floats
from flwr_krum.kernel.ranking import Contrast, Ranking, Score, rank_as_rounded


class NotRecordedError(ValueError):
    """A rule asks for what distances and inner products do not tell."""


class RecordedGeometry(Geometry):
    """The geometry of clients and server rows from their distances and inner products alone.

    Scores are ordered in float64: where exact arithmetic decided, another client may come first.

    Parameters
    ----------
    points : Points
        The clients, the server's rows and the global model.
    products : (n + s, n + s)
        Inner products of the updates and the server's rows, in the points' unit.
    server_rows : tuple of str
        Names of the s rows.
    d : int
        Number of coordinates that a distance saw.
    """

    def __init__(
        self, points: Points, products: Float64, server_rows: tuple[str, ...], d: int
    ) -> None:
        self.n = points.n
        self.server_rows = server_rows
        self._points = points
        self._products = products
        self._d = d

    @property
    def scale(self) -> float:
        """The unit of lengths."""
        return self._points.scale

    @property
    def all_products(self) -> Float64:
        """Inner products of the updates and the server's rows."""
        return self._products

    @cached_property
    def all_squared(self) -> Float64:
        """Squared distances of the same rows."""
        r = len(self._products)
        return within_floats(self._points.squared[:r, :r])

    def rank(self, score: Score, count: int, contrast: Contrast | None = None) -> Ranking:
        """Return the ``count`` clients of smallest score, in float64."""
        return rank_as_rounded(self.squared, score, count)

    @property
    def d(self) -> int:
        """Number of coordinates that a distance saw."""
        return self._d

    def columns(self, chosen: Indices) -> Float64:
        """Raise NotRecordedError: no coordinate was kept."""
        raise NotRecordedError("it reads single coordinates, and distances hold none")
