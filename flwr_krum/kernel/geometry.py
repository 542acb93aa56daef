"""Squared distances between client updates: one pass over the models, and a bound on the error.

The Gram matrix G of the offsets from the global model gives every squared distance,
``||V_i - V_j||^2 = G_ii + G_jj - 2 G_ij``. Where its rounding error is not small beside the
distance (cancellation), the pair is computed again from differences. For few clients and with the
extra ``fast``, compiled differences are faster still (`flwr_krum.kernel.numba_way`).

Sources: Blanchard et al., NIPS 2017, Lemma 2 (cost n^2 d); error bounds as in Higham, "Accuracy
and Stability of Numerical Algorithms", section 3.1.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.device import is_compiled, is_cuda
from flwr_krum.kernel.distances import TINY, UNIT, Distances, below_diagonal
from flwr_krum.kernel.threads import one_blas_thread, spread
from flwr_krum.kernel.updates import BLOCK, PIECE, ClientUpdates

ACCURATE = 2.0**-20
"""Relative error above which a squared distance is computed again from differences."""

_MOST_IN_BLOCK = 3 * 2**18
"""Numbers in a block: with more clients it is narrower, so that it needs no more memory."""

_MOST_IN_ALL = 28 * 2**17
"""Numbers in the blocks and sums of all threads: 28 MiB."""

_LEAST_SHARED = 30
"""Clients from which threads pay: with fewer, calls are so short that they wait for each other."""

_SMALL_PRODUCT, _LEAST_STRIP = 10**6, 2048
"""Multiplications of what OpenBLAS takes for a small product; columns that make it worth it."""


def squared_distances(updates: ClientUpdates) -> Distances:
    """Return all squared distances between n updates, on the updates' device.

    One pass and ``n^2 d`` multiplications; pairs that suffer cancellation cost a second pass.
    """
    with stage("geometry"):
        if is_compiled(updates.device, updates.n, updates.d) and updates.buffers is not None:
            from flwr_krum.kernel import numba_way

            distances = numba_way.squared_distances(updates, updates.buffers)
            if distances is not None:
                return distances
        return gram_distances(updates)


def sharper(updates: ClientUpdates, distances: Distances, clients: Indices) -> Distances:
    """Return the distances with those of the given clients as good as float64 has them."""
    if not distances.coarse or updates.buffers is None:
        return distances
    from flwr_krum.kernel import numba_way

    with stage("geometry"):
        return numba_way.refined(updates, updates.buffers, distances, clients)


def gram_distances(updates: ClientUpdates) -> Distances:
    """Return all squared distances by way of G, each accurate to about six digits or more."""
    scale = 1.0
    g = gram(updates)
    if _out_of_range(updates, g):
        scale = _balancing_scale(updates)
        g = gram(updates, scale) if scale != 1.0 else g
    norms = np.diagonal(g)
    fits = np.isfinite(norms)
    finite = fits | _all_finite(updates, ~fits)
    dot_error = _dot_error(updates.d, PIECE if is_cuda(updates.device) else BLOCK)
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.maximum(norms[:, None] + norms[None, :] - 2.0 * g, 0.0)
        error = 2.0 * dot_error * (norms[:, None] + norms[None, :]) + _underflow(updates.d)
        doubtful = ~(error <= ACCURATE * squared) & finite[:, None] & finite[None, :]
    # Beside a vector whose norm overflows, one whose norm fits is infinitely far: no second pass.
    doubtful &= fits[:, None] == fits[None, :]
    squared[~np.isfinite(squared)] = np.inf
    rows, columns = np.nonzero(doubtful & below_diagonal(updates.n).T)
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
    if is_cuda(updates.device):
        from flwr_krum.kernel import cuda_way

        return cuda_way.gram(updates, scale)
    n = updates.n
    width = min(BLOCK, max(1024, _MOST_IN_BLOCK // n), max(1, updates.d))
    scratch = threading.local()

    def work(first: int) -> Float64:
        if not hasattr(scratch, "block"):
            scratch.block = np.zeros((n + 1, width))
        g = np.zeros((n, n))
        last = min(updates.d, first + PIECE)
        with np.errstate(over="ignore", invalid="ignore"):  # each thread has its own
            for start in range(first, last, width):
                stop = min(last, start + width)
                block = updates.read_offsets(start, stop, scratch.block[:n])
                if scale != 1.0:
                    block *= scale
                _add_product(scratch.block[:, : stop - start], g)
        return g

    g = np.zeros((n, n))
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        most = max(1, _MOST_IN_ALL // ((n + 1) * width + 3 * n * n)) if n >= _LEAST_SHARED else 1
        for part in spread(work, range(0, updates.d, PIECE), most):
            g += part
    return np.where(below_diagonal(n), g, g.T)


def _add_product(block: Float64, g: Float64) -> None:
    """Add the inner products of all rows of a block but the last, which is spare, to ``g``.

    BLAS has fast kernels for small products of different matrices, but NumPy sees that these are
    the same and asks for the symmetric product, which has none. A spare row makes them different.
    """
    rows = block[:-1]
    strip = _SMALL_PRODUCT // (len(rows) * len(block)) // 64 * 64
    if strip < _LEAST_STRIP:
        g += rows @ rows.T
        return
    for start in range(0, rows.shape[1], strip):
        columns = slice(start, start + strip)
        g += (rows[:, columns] @ block[:, columns].T)[:, :-1]


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
