"""Bounds on how far n clients are from each other and from what was made of them.

With h_i = ||x_i - A||^2 and D_ij = ||x_i - x_j||^2, for a set S of m clients::

    T_S = mean of h over S        V_S = sum of D over S x S / (2 m^2)
    ||A - mean_S||^2 = T_S - V_S

for any point A. Of a mixture A = sum_j w_j x_j over points, with weights of sum 1 and any sign::

    h_i = (D w)_i - w'Dw / 2

Whoever wants a bound on the left from above takes h from above and D from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.combine import NOTHING
from flwr_krum.kernel.distances import TINY, UNIT, Distances

FLOOR = 2.0**-900
"""Beside a largest distance of about 1: what is smaller counts as nothing, or as this much."""


@dataclass(frozen=True)
class Points:
    """Squared distances (p, p) with ``|squared - exact| <= error``, in units of ``1 / scale^2``.

    Attributes
    ----------
    squared, error : (p, p)
        An error of 0 beside a distance of 0 says that the two are the same point.
    n : int
        The first n points are clients. Those after them are the server's, and no client's.
    has_model : bool
        Whether the last point is the global model.
    scale : float
    """

    squared: Float64
    error: Float64
    n: int
    has_model: bool = False
    scale: float = 1.0

    @classmethod
    def of_clients(cls, distances: Distances, zeros_are_exact: bool = False) -> Self:
        """Take clients alone, for weights that sum to one.

        Parameters
        ----------
        zeros_are_exact : bool
            Whether clients at distance 0 are known to be the same: no square has underflowed.
        """
        error = _surely(distances, zeros_are_exact)
        return cls(distances.squared, error, len(error), scale=distances.scale)

    @classmethod
    def of_rows(cls, distances: Distances, n: int, d: int, zeros_are_exact: bool = False) -> Self:
        """Take n clients, the server's rows and the global model.

        Parameters
        ----------
        distances : Distances
            Of clients and server rows, with inner products of offsets from the global model.
        n : int
            Clients among the rows.
        d : int
            Coordinates that a distance sees.
        zeros_are_exact : bool
            As for `of_clients`.

        Raises
        ------
        ValueError
            If the inner products were derived from the distances.
        """
        if not distances.dot_error < 0.5:
            raise ValueError(
                f"the offsets' lengths are known to {distances.dot_error} of themselves: take "
                "distances with inner products"
            )
        lengths = np.diagonal(distances.gram)
        relative = distances.dot_error / (1.0 - distances.dot_error)
        lost = np.where(zeros_are_exact & (lengths == 0.0), 0.0, 4.0 * d * TINY)
        error = relative * np.abs(lengths) + lost
        errors = _beside(_surely(distances, zeros_are_exact), error)
        return cls(_beside(distances.squared, lengths), errors, n, True, distances.scale)

    @classmethod
    def of_matrix(cls, squared: Float64, relative: float, q: Float64 | None = None) -> Self:
        """Take clients from a matrix whose entries are each right to ``relative`` of the exact one.

        Parameters
        ----------
        squared : (n, n)
        relative : float
            In [0, 1); what is 0 is exactly 0.
        q : (n,), optional
            Squared distances from the global model, as sharp.
        """
        n = len(squared)
        matrix = squared if q is None else _beside(squared, q)
        with np.errstate(over="ignore", invalid="ignore"):
            error = relative / (1.0 - relative) * np.abs(matrix)
        return cls(matrix, error, n, q is not None)

    def check(self) -> None:
        """Raise ValueError unless the matrices fit each other and the number of clients."""
        p = len(self.squared)
        if not self.squared.shape == self.error.shape == (p, p):
            shapes = f"{self.squared.shape} and {self.error.shape}"
            raise ValueError(f"expected distances and errors of one square shape, got {shapes}")
        if not 1 <= self.n <= p - self.has_model:
            raise ValueError(f"{self.n} clients among {p} points, expected 1 or more of them")

    def full_weights(self, weights: Float64) -> Float64:
        """Return a weight for each point, of sum 1: what is missing lies on the global model.

        Raises
        ------
        ValueError
            If weights are more than points, or what is missing has no place.
        """
        p, r = len(self.squared), len(weights)
        if weights.ndim != 1 or not self.n <= r <= p - self.has_model:
            raise ValueError(
                f"{r} weights for {self.n} clients and {p - self.n} points beside them"
            )
        full = np.zeros(p)
        full[:r] = weights
        if not np.isfinite(weights).all():
            return full
        try:
            total = math.fsum(weights.tolist())
        except OverflowError:
            return np.full(p, np.inf)
        if abs(1.0 - total) <= NOTHING:
            return full / total
        if not self.has_model:
            raise ValueError(
                f"weights sum to {total:.6g}, and what they lack of 1 lies on the global model: "
                "give its distances from the clients"
            )
        full[-1] = 1.0 - total
        return full


def _surely(distances: Distances, zeros_are_exact: bool) -> Float64:
    if not zeros_are_exact:
        return distances.error
    error: Float64 = np.where(distances.squared == 0.0, 0.0, distances.error)
    return error


def _beside(matrix: Float64, last: Float64) -> Float64:
    p = len(matrix)
    grown = np.zeros((p + 1, p + 1))
    grown[:p, :p] = matrix
    grown[p, :p] = grown[:p, p] = last
    return grown


@dataclass(frozen=True)
class Enclosure:
    """What is certain of n clients, of the global model and of a point A, in one unit.

    Sums over n entries, or n^2 of them, may be taken in float64: the bounds leave room for that.

    Attributes
    ----------
    n : int
        The first n points are clients.
    has_model : bool
        Whether the last point is the global model.
    low, high : (p, p)
        Bounds on the points' squared distances.
    heights_low, heights_high : (p,)
        Bounds on their squared distances from A.
    unit : float
        By what a length is multiplied for one in the models' unit.
    """

    n: int
    has_model: bool
    low: Float64
    high: Float64
    heights_low: Float64
    heights_high: Float64
    unit: float

    @property
    def low_of_clients(self) -> Float64:
        """Squared distances (n, n) of clients, never too large."""
        return self.low[: self.n, : self.n]

    @property
    def room(self) -> float:
        """The share of a sum that the bounds leave for its rounding."""
        return _room(len(self.low))


def _room(p: int) -> float:
    return (8 * p + 64) * UNIT


def enclose(
    points: Points,
    weights: Float64 | None,
    *,
    heights: Float64 | None = None,
    heights_error: Float64 | float = 0.0,
    rounding: float = 0.0,
) -> Enclosure | None:
    """Return bounds for a mixture, or for a point of which the distances are known.

    Parameters
    ----------
    points : Points
    weights : (n,) or (n + s,), optional
        Of clients and server rows; what they lack of the sum 1 lies on the global model.
    heights : (p,), optional
        In the place of weights: squared distances of A from all points.
    heights_error : (p,) or float
        By how much these may be wrong.
    rounding : float
        How far A may have been moved after it was mixed, in the models' unit.

    Returns
    -------
    Enclosure or None
        None where something is not finite.

    Raises
    ------
    ValueError
        If the arguments do not fit each other.
    """
    if (weights is None) == (heights is None):
        raise ValueError("expected either weights or heights")
    points.check()
    with np.errstate(all="ignore"):
        given = None if heights is None else _span(points, heights, heights_error)
        far = float(np.max(points.squared + points.error))
        far = far if given is None else float(np.maximum(far, np.max(given[1])))
        if not math.isfinite(far):
            return None
        # A power of four, so that lengths are in units of a power of two.
        exponent = 2 * (math.frexp(far)[1] // 2) if far else 0
        shrink = math.ldexp(1.0, -max(-1022, min(1022, exponent)))
        unit = math.sqrt(1.0 / shrink) / points.scale
        squared = np.maximum(points.squared, 0.0) * shrink
        error = points.error * shrink
        if given is None:
            full = points.full_weights(np.asarray(weights, dtype=np.float64))
            bottom, top = _span_of_mixture(squared, error, full)
            # Where all that A is made of is one point, A is that point, and nothing is rounded.
            apart = (points.squared + points.error)[:, full != 0.0].any(axis=1)
        else:
            bottom, top, apart = given[0] * shrink, given[1] * shrink, given[1] > 0.0
        room = _room(len(squared))
        top = np.where(apart, top * (1.0 + room) + FLOOR, 0.0)
        bottom = np.maximum(bottom * (1.0 - room) - FLOOR, 0.0)
        if rounding:
            moved = rounding / unit
            top = (np.sqrt(top) + moved) ** 2 * (1.0 + room) + FLOOR
            bottom = np.maximum(np.sqrt(bottom) - moved, 0.0) ** 2 * (1.0 - room)
        if not ((top < 1.0 / FLOOR).all() and 0.0 < unit < math.inf):
            return None
        low = np.maximum(squared - error, 0.0) * (1.0 - room)
        low[low < FLOOR] = 0.0
        high = (squared + error) * (1.0 + room) + FLOOR
    return Enclosure(points.n, points.has_model, low, high, bottom, top, unit)


def _span(points: Points, heights: Float64, error: Float64 | float) -> tuple[Float64, Float64]:
    """Return bounds from given heights."""
    given = np.asarray(heights, dtype=np.float64)
    p = len(points.squared)
    if given.shape != (p,):
        raise ValueError(f"expected heights of {p} points, got shape {given.shape}")
    return given - error, np.maximum(given + error, 0.0)


def _span_of_mixture(squared: Float64, error: Float64, full: Float64) -> tuple[Float64, Float64]:
    """Return bounds on the heights of a mixture by weights (p,) of sum 1.

    v = w'Dw / 2 is subtracted: an error of D counts there too, with the other sign.
    """
    size = np.abs(full)
    unsure = error + _room(len(full)) * (squared + error)
    own, spare = squared @ full, unsure @ size
    middle = own - 0.5 * float(full @ own)
    slack = spare + 0.5 * float(size @ spare)
    return middle - slack, np.maximum(middle + slack, 0.0)
