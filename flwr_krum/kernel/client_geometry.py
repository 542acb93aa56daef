"""The geometry of the clients' models themselves: read from them when somebody needs more of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from flwr_krum.kernel import low_rank, ranking
from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.distances import Distances
from flwr_krum.kernel.enclosure import Points
from flwr_krum.kernel.geometry import LARGEST, NONE, Geometry, within_floats
from flwr_krum.kernel.pairwise import gram_distances, sharper, squared_distances, squared_from
from flwr_krum.kernel.ranking import Contrast, Ranking, Score
from flwr_krum.kernel.updates import ClientUpdates

ROUGH = 2.0**-13
"""An error of a squared distance, times a weight, that shows beside the distances of others."""


class ClientGeometry(Geometry):
    """The geometry of the clients as they came; it sharpens itself when somebody needs more.

    Attributes
    ----------
    ranking : Ranking, optional
        The last one that was asked for.
    """

    def __init__(self, updates: ClientUpdates) -> None:
        self.n = updates.n
        self.server_rows = tuple(updates.server_rows)
        self._updates = updates.compared
        self._measured = updates.measured
        self._ranked: Distances | None = None
        self.ranking: Ranking | None = None

    @property
    def distances(self) -> Distances:
        """The clients' squared distances with their bounds, as sharp as anybody needed them."""
        if self._ranked is None:
            self._ranked = squared_distances(self._updates.clients_alone())
        return self._ranked

    @property
    def has_differences(self) -> bool:
        """Whether distances were needed, and taken pair by pair: then some can be had early."""
        return self._ranked is not None and not np.isfinite(self._ranked.dot_error)

    @cached_property
    def _sharp(self) -> Distances:
        """Distances and inner products of all rows, both of float64 quality."""
        ranked = self._ranked
        if ranked is not None and not self.server_rows and ranked.is_sharp:
            return ranked
        with stage("geometry"):
            sharp = gram_distances(self._updates)
        if ranked is None and not self.server_rows:
            self._ranked = sharp
        return sharp

    @property
    def scale(self) -> float:
        """The unit of lengths."""
        return self._sharp.scale

    @cached_property
    def all_products(self) -> Float64:
        """Inner products of the clients' updates and the server's rows."""
        return within_floats(self._sharp.gram)

    @cached_property
    def all_squared(self) -> Float64:
        """Squared distances of the same rows."""
        return within_floats(self._sharp.squared)

    def rough(self, sharp: Indices = NONE) -> tuple[Float64, Float64] | None:
        """Return the clients' distances as they are ranked at first, in float32."""
        if "_sharp" in self.__dict__ or self.server_rows or not self.distances.coarse:
            return None
        if sharp.size:
            self._ranked = sharper(self._updates.clients_alone(), self.distances, sharp)
        return self.distances.squared, self.distances.error

    def points(self) -> Points:
        """Return the clients, the server's rows and the global model as points.

        Another pass over the models where their inner products were never taken.
        """
        return Points.of_rows(self._sharp, self.n, self.d, self._zeros_are_exact)

    def clients(self, weights: Float64) -> Points:
        """Return the clients alone as points, sharp enough for their mixture by weights (n,)."""
        distances = self.distances
        if distances.coarse:
            doubtful = _too_coarse(distances, weights)
            if doubtful.size:
                distances = sharper(self._updates.clients_alone(), distances, doubtful)
        return Points.of_clients(distances, self._zeros_are_exact)

    def squared_from(self, layers: Sequence[Array], scale: float) -> tuple[Float64, Float64]:
        """Return the squared distances (n,) of a model from the clients, and their errors.

        Another pass over the models. Never for products of layers.

        Parameters
        ----------
        layers : L arrays
            In the layers of the updates that this is the geometry of.
        scale : float
            The unit of the distances.
        """
        seen = self._measured
        compared = layers if seen is None else [layers[i] for i in seen]
        return squared_from(self._updates.clients_alone(), compared, scale)

    @property
    def _zeros_are_exact(self) -> bool:
        # The square of the smallest difference of float32 is a float64.
        rows = self._updates.flat_rows
        widest = max(layer.dtype.itemsize for model in rows for layer in model)
        return widest < 8 and not self._updates.products

    def rank(self, score: Score, count: int, contrast: Contrast | None = None) -> Ranking:
        """Return the ``count`` clients of smallest score, as exact arithmetic orders them.

        Products of layers are ordered in float64; the ranking's note says where that decides.
        """
        found = ranking.rank(
            self._updates.clients_alone(), score, count, contrast, distances=self.distances
        )
        self._ranked, self.ranking = found.distances, found
        return found

    @property
    def d(self) -> int:
        """Number of coordinates that a distance sees."""
        return low_rank.width(self._updates) if self._updates.products else self._updates.d

    def columns(self, chosen: Indices) -> Float64:
        """Return some coordinates (n, b) of the clients' updates, no number beyond `LARGEST`."""
        with np.errstate(over="ignore"):
            if self._updates.products:
                found = low_rank.columns(self._updates, chosen)
            else:
                found = self._updates.read_columns(chosen)
        return np.clip(found, -LARGEST, LARGEST, out=found)


def _too_coarse(distances: Distances, weights: Float64) -> Indices:
    """Return clients whose distances are zero, or too coarse for the weight that they have.

    Beside the lower quartile: more than a quarter of all pairs are of clients that are no liars.
    """
    n = len(weights)
    squared, error = distances.squared, distances.error
    alike = (squared <= error).sum(axis=1) > 1
    size = np.abs(weights)
    with np.errstate(invalid="ignore", over="ignore"):
        rows, spare = squared @ weights, error @ size
        heights = rows - 0.5 * float(weights @ rows)
        spare += 0.5 * float(size @ spare)
    # The error of a far client's distances is small beside its own height.
    if (spare <= ROUGH * heights).all():
        return np.flatnonzero(alike)
    close = float(np.partition(squared, n * n // 4, axis=None)[n * n // 4])
    if (spare <= ROUGH * np.maximum(heights, close)).all():
        return np.flatnonzero(alike)
    rough = (error * size).max(axis=0) > ROUGH * close
    return np.flatnonzero(alike | rough)
