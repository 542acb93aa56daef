"""Squared distances between client updates: one pass over the models, and a bound on the error.

The Gram matrix G of the offsets from the global model gives every squared distance,
``||V_i - V_j||^2 = G_ii + G_jj - 2 G_ij``. Where its rounding error is not small beside the
distance (cancellation), the pair is computed again from differences.

Sources: Blanchard et al., NIPS 2017, Lemma 2 (cost n^2 d); error bounds as in Higham, "Accuracy
and Stability of Numerical Algorithms", section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flwr_krum.updates import BLOCK, ClientUpdates, Float64

Indices: TypeAlias = NDArray[np.intp]

UNIT = 2.0**-53
ACCURATE = 2.0**-20
"""Relative error above which a squared distance is computed again from differences."""
TINY = 2.0**-1074


@dataclass(frozen=True)
class Distances:
    """Squared distances (n, n) with ``|squared - exact| <= error``, in units of ``1 / scale^2``.

    A client that holds NaN or Inf (``finite`` is False) is infinitely far from every other; an
    infinite distance between finite clients is one that overflows. ``scale`` is a power of two
    other than 1 only where float64 itself would overflow or underflow. ``gram`` is in the same
    unit, with entries accurate to ``dot_error`` times the product of the two norms.
    """

    squared: Float64
    error: Float64
    finite: NDArray[np.bool_]
    gram: Float64
    dot_error: float
    scale: float = 1.0


def squared_distances(updates: ClientUpdates) -> Distances:
    """Return all squared distances between n updates, each accurate to about six digits or more.

    One pass and ``n^2 d`` multiplications; pairs that suffer cancellation cost a second pass.
    """
    scale = 1.0
    g = gram(updates)
    if _out_of_range(updates, g):
        scale = _balancing_scale(updates)
        g = gram(updates, scale) if scale != 1.0 else g
    norms = np.diagonal(g)
    fits = np.isfinite(norms)
    finite = fits | _all_finite(updates, ~fits)
    dot_error = _dot_error(updates.d)
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.maximum(norms[:, None] + norms[None, :] - 2.0 * g, 0.0)
        error = 2.0 * dot_error * (norms[:, None] + norms[None, :]) + _underflow(updates.d)
        doubtful = ~(error <= ACCURATE * squared) & finite[:, None] & finite[None, :]
    # Beside a vector whose norm overflows, one whose norm fits is infinitely far: no second pass.
    doubtful &= fits[:, None] == fits[None, :]
    squared[~np.isfinite(squared)] = np.inf
    rows, columns = np.nonzero(np.triu(doubtful, 1))
    if rows.size:
        values = _differences(updates, rows, columns, scale)
        squared[rows, columns] = squared[columns, rows] = values
        with np.errstate(invalid="ignore"):
            bound = 2.0 * dot_error * values + _underflow(updates.d)
        error[rows, columns] = error[columns, rows] = bound
    np.fill_diagonal(squared, 0.0)
    np.fill_diagonal(error, 0.0)
    error[~np.isfinite(squared)] = 0.0
    return Distances(squared, error, finite, g, dot_error, scale)


def gram(updates: ClientUpdates, scale: float = 1.0) -> Float64:
    """Return the (n, n) Gram matrix of ``scale *`` (update - global model), in float64."""
    g = np.zeros((updates.n, updates.n))
    product = np.empty_like(g)
    # One BLAS thread: a server shares its cores with clients, and spinning threads cost more.
    with (
        _threadpools().limit(limits=1, user_api="blas"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        for block in updates.offset_blocks():
            if scale != 1.0:
                block *= scale
            np.matmul(block, block.T, out=product)
            g += product
    return g


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()


def _dot_error(d: int) -> float:
    # The dot product of a block, the sum over blocks, the centring of both factors: unit
    # roundoffs relative to the product of norms; the same bound holds for a sum of squares.
    return (min(d, BLOCK) - (-d // BLOCK) + 8) * UNIT


def _underflow(d: int) -> float:
    # Each square, and each difference, may lose what lies below the smallest float.
    return 4.0 * d * TINY


def _out_of_range(updates: ClientUpdates, g: Float64) -> bool:
    # Squares of float16 and float32 always fit into float64.
    if all(layer.dtype.itemsize < 8 for model in updates.flat for layer in model):
        return False
    norms = np.diagonal(g)
    return bool((~(norms < 1e200) | (norms < 1e-200)).any())


def _balancing_scale(updates: ClientUpdates) -> float:
    """Return a power of two by which offsets can be squared.

    The largest client's offset goes to 2^480, so that nothing overflows; if the median client's
    would then vanish, it goes to 1 and the largest overflow.
    """
    largest = np.zeros(updates.n)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in updates.offset_blocks():
            np.fmax(largest, np.abs(block).max(axis=1), out=largest)
    usable = largest[np.isfinite(largest) & (largest > 0)]
    if not usable.size:
        return 1.0
    top, middle = (int(np.frexp(value)[1]) for value in (usable.max(), np.median(usable)))
    exponent = top - 480 if middle - top > -880 else middle
    return 2.0 ** -max(-1000, min(1000, exponent)) if top > 480 or middle < -300 else 1.0


def _all_finite(updates: ClientUpdates, suspects: NDArray[np.bool_]) -> NDArray[np.bool_]:
    finite = np.zeros(updates.n, dtype=bool)
    for i in np.flatnonzero(suspects):
        finite[i] = all(np.isfinite(layer).all() for layer in updates.flat[i])
    return finite


def _differences(updates: ClientUpdates, rows: Indices, columns: Indices, scale: float) -> Float64:
    """Return ``||V_i - V_j||^2`` of the given pairs from float64 differences of the inputs."""
    total = np.zeros(rows.size)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in updates.without_reference().offset_blocks():
            if scale != 1.0:
                block *= scale
            for i in np.unique(rows):
                mine = rows == i
                difference = block[columns[mine]] - block[i]
                total[mine] += np.einsum("kb,kb->k", difference, difference)
    return np.where(np.isnan(total), np.inf, total)
