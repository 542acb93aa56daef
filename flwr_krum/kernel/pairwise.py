"""The squared distances of a round's clients: one pass over the models, with a bound on the error.

The Gram matrix G of the offsets from the global model gives every squared distance,
``||V_i - V_j||^2 = G_ii + G_jj - 2 G_ij``. Where its rounding error is not small beside the
distance (cancellation), the pair is computed again from differences. For few clients and with the
extra ``fast``, compiled differences are faster still (`kernel.numba_way`).

Sources: Blanchard et al., NIPS 2017, Lemma 2 (cost n^2 d); error bounds as in Higham, "Accuracy
and Stability of Numerical Algorithms", section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel import low_rank, ways
from flwr_krum.kernel.arrays import Array, Float64, Indices, are_finite
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.distances import TINY, UNIT, Distances, below_diagonal
from flwr_krum.kernel.updates import PIECE, ClientUpdates

ACCURATE = 2.0**-20
"""Relative error above which a squared distance is computed again from differences."""


def squared_distances(updates: ClientUpdates) -> Distances:
    """Return all squared distances between n updates, on the updates' device.

    One pass and ``n^2 d`` multiplications; pairs that suffer cancellation cost a second pass.
    """
    with stage("geometry"):
        first = None if updates.products else ways.first_distances(updates)
        return gram_distances(updates) if first is None else first


def sharper(updates: ClientUpdates, distances: Distances, clients: Indices) -> Distances:
    """Return the distances with those of the given clients as good as float64 has them."""
    if not distances.coarse:
        return distances
    with stage("geometry"):
        refined = ways.refined(updates, distances, clients)
        return gram_distances(updates) if refined is None else refined


def gram_distances(updates: ClientUpdates) -> Distances:
    """Return the squared distances of all rows by way of G, each good to six digits or more.

    Rows are the clients and, after them, the server's own. Products of layers are compared as such,
    only as sharply as `kernel.low_rank` says.
    """
    if updates.products:
        plain = gram_distances(updates.plain) if updates.plain.d else None
        return low_rank.product_distances(updates, plain)
    scale = 1.0
    g = ways.gram(updates)
    if _out_of_range(updates, g):
        scale = _balancing_scale(updates)
        g = ways.gram(updates, scale) if scale != 1.0 else g
    norms = np.diagonal(g)
    fits = np.isfinite(norms)
    finite = fits | _all_finite(updates, ~fits)
    dot_error = _dot_error(updates.d, ways.longest_sum(updates.device))
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.maximum(norms[:, None] + norms[None, :] - 2.0 * g, 0.0)
        error = 2.0 * dot_error * (norms[:, None] + norms[None, :]) + _underflow(updates.d)
        doubtful = ~(error <= ACCURATE * squared) & finite[:, None] & finite[None, :]
    # Beside a vector whose norm overflows, one whose norm fits is infinitely far: no second pass.
    doubtful &= fits[:, None] == fits[None, :]
    squared[~np.isfinite(squared)] = np.inf
    rows, columns = np.nonzero(doubtful & below_diagonal(updates.rows).T)
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


def lengths(updates: ClientUpdates) -> Float64:
    """Return how long each row's update is; infinite where no float64 holds its square."""
    if updates.products:
        squares = np.maximum(np.diagonal(gram_distances(updates).gram), 0.0)
        return np.sqrt(np.where(np.isnan(squares), np.inf, squares))
    squares = np.zeros(updates.rows)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in updates.offset_blocks():
            squares += np.einsum("rb,rb->r", block, block)
    norms: Float64 = np.sqrt(squares)
    return norms


def squared_from(
    updates: ClientUpdates, layers: Sequence[Array], scale: float = 1.0
) -> tuple[Float64, Float64]:
    """Return the squared distances (n,) of a model from all clients, and by how much they may err.

    One pass from differences: ``n d`` multiplications.

    Parameters
    ----------
    updates : ClientUpdates
        That are compared as they are, and not as products.
    layers : L arrays
        The model, in the updates' layers.
    scale : float
        The unit: distances are in units of ``1 / scale^2``.
    """
    beside = replace(updates, server_rows={"from": tuple(layers)})
    every = np.arange(updates.n)
    with stage("geometry"):
        values = _differences(beside, np.full(updates.n, updates.n), every, scale)
    error = 2.0 * _dot_error(updates.d, ways.longest_sum(updates.device)) * values
    return values, error + _underflow(updates.d)


def length_at_most(layers: Sequence[Array]) -> float:
    """Return a little more than the length of all layers together, to one per cent."""
    square = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in layers:
            flat = layer.ravel()
            for start in range(0, flat.size, _LENGTH_BLOCK):
                part = flat[start : start + _LENGTH_BLOCK]
                part = part.astype(np.float32) if part.dtype.itemsize < 4 else part
                # Squares that underflow in their dtype.
                lost = part.size * float(np.finfo(part.dtype).tiny)
                square += float(part @ part) + lost
    return 1.01 * math.sqrt(square)


_LENGTH_BLOCK = 2**16
"""Numbers whose squares are added up in their own dtype: to 2^-8 of the sum in float32."""


def _dot_error(d: int, longest: int) -> float:
    # The dot product of a block, the sums over blocks and pieces, the centring of both factors:
    # unit roundoffs relative to the product of norms; the same bound holds for a sum of squares.
    blocks = PIECE // 1024  # the narrowest
    return (min(d, longest) + min(-(-d // 1024), blocks) - (-d // PIECE) + 8) * UNIT


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
    would then vanish, the largest overflow, and that goes to 1 where it would vanish by itself.
    """
    largest = np.zeros(updates.rows)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in updates.offset_blocks():
            np.fmax(largest, np.abs(block).max(axis=1), out=largest)
    usable = largest[np.isfinite(largest) & (largest > 0)]
    if not usable.size:
        return 1.0
    top, middle = (int(np.frexp(value)[1]) for value in (usable.max(), np.median(usable)))
    if middle - top > -880:
        exponent = top - 480 if top > 480 or middle < -300 else 0
    else:
        exponent = 0 if -300 <= middle <= 480 else middle
    return 2.0 ** -max(-1000, min(1000, exponent))


def _all_finite(updates: ClientUpdates, suspects: NDArray[np.bool_]) -> NDArray[np.bool_]:
    finite = np.zeros(updates.rows, dtype=bool)
    for i in np.flatnonzero(suspects):
        finite[i] = are_finite(updates.flat_rows[i])
    return finite


def _differences(updates: ClientUpdates, rows: Indices, columns: Indices, scale: float) -> Float64:
    """Return ``||V_i - V_j||^2`` of the given pairs from float64 differences of the inputs."""
    total = np.zeros(rows.size)
    some = np.unique(rows)
    direct = ways.some_differences(updates, some) if scale == 1.0 else None
    if direct is not None:
        found: Float64 = direct[np.searchsorted(some, rows), columns]
        return np.where(np.isnan(found), np.inf, found)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in updates.without_reference().offset_blocks():
            if scale != 1.0:
                block *= scale
            for i in some:
                mine = rows == i
                difference = block[columns[mine]] - block[i]
                total[mine] += np.einsum("kb,kb->k", difference, difference)
    return np.where(np.isnan(total), np.inf, total)
