"""Inner products of updates in NumPy's BLAS: what every device can fall back on.

The Gram matrix is taken over blocks of columns that stay in cache.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.distances import below_diagonal
from flwr_krum.kernel.threads import blas_is_one_of, one_blas_thread, spread
from flwr_krum.kernel.updates import BLOCK, PIECE, ClientUpdates, Read

Single: TypeAlias = NDArray[np.float32]

_MOST_IN_BLOCK = 3 * 2**18
"""Numbers in a block: with more clients it is narrower, so that it needs no more memory."""

_MOST_IN_ALL = 28 * 2**17
"""Numbers in the blocks and sums of all threads: 28 MiB."""

_LEAST_SHARED = 30
"""Clients from which threads pay: with fewer, calls are so short that they wait for each other."""

_LEAST_TERMS, _MOST_TERMS = 128, 1024
"""Products that are added up in float32: fewer cost more, and of more too much is rounded."""

_MOST_SINGLE = 2**20
"""Numbers in a block of float32."""

_MOST_KEPT = 2**21
"""Numbers in a block of float32 whose memory is kept from call to call: 8 MiB."""

_WITH_SMALL_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")
"""What OpenBLAS calls its kernels for AVX-512."""

_SMALL_PRODUCT, _LEAST_STRIP = 10**6, 2048
"""Multiplications of what it takes for a small product; columns that make it worth it."""


def gram(updates: ClientUpdates, scale: float = 1.0, read: Read | None = None) -> Float64:
    """Return the Gram matrix of ``scale *`` (row - global model), server rows last, in float64."""
    read = read or updates.read_offsets
    n = updates.rows
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
                block = read(start, stop, scratch.block[:n])
                if scale != 1.0:
                    block *= scale
                _add_product(scratch.block[:, : stop - start], g)
        return g

    return _sum(n, work, range(0, updates.d, PIECE), (n + 1) * width + 3 * n * n)


def strip_width(n: int) -> int:
    """Return how many products `single_gram` adds up in float32 at a time.

    So few that little is rounded, and so many that adding n x n such sums in float64 costs little.
    """
    return min(_MOST_TERMS, -(-n // _LEAST_TERMS) * _LEAST_TERMS)


def single_gram(updates: ClientUpdates, strip: int, start: int, stop: int) -> Float64:
    """Return the Gram matrix of (client - global model) over some columns, multiplied in float32.

    Parameters
    ----------
    updates : ClientUpdates
        Of clients alone, and of numbers that float32 holds.
    strip : int
        Products of so many columns are added up in float32, and such sums in float64.
    start, stop : int
        The columns. Those of a small model are read in one go: nothing is joined for their sake.
    """
    n, columns = updates.n, stop - start
    if n * columns <= _MOST_SINGLE:
        strips = -(-columns // strip)
    else:
        strips = max(1, min(2 * BLOCK, _MOST_SINGLE // n, columns) // strip)
    width = strips * strip
    step = -(-PIECE // max(1, width)) * width

    def work(first: int) -> Float64:
        block, g = _kept("block", (n + 1, width)), np.zeros((n, n))
        block[n] = 0.0
        last = min(stop, first + step)
        with np.errstate(over="ignore", invalid="ignore"):  # each thread has its own
            for begin in range(first, last, width):
                end = min(last, begin + width)
                updates.read_offsets(begin, end, block)
                used = -(-(end - begin) // strip)
                block[:, end - begin : used * strip] = 0.0
                g += _single_products(block.reshape(n + 1, strips, strip)[:, :used])
        return g

    room = (n + 1) * width // 2 + (strips // 2 + 4) * n * n
    return _sum(n, work, range(start, stop, max(1, step)), room)


def _sum(n: int, work: Callable[[int], Float64], tasks: Sequence[int], room: int) -> Float64:
    """Return the symmetric sum of matrices (n, n), on as many threads as their room allows."""
    g = np.zeros((n, n))
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        most = max(1, _MOST_IN_ALL // room) if n >= _LEAST_SHARED else 1
        for part in spread(work, tasks, most):
            g += part
    return np.where(below_diagonal(n), g, g.T)


def _single_products(rows: Single) -> Float64:
    """Return the inner products of all rows (n + 1, strips, strip) but the last, which is spare."""
    n, strips = len(rows) - 1, rows.transpose(1, 0, 2)
    left = strips[:, :n]
    right = strips if _likes_spare_row(n) else left
    products = _kept("products", (len(strips), n, right.shape[1]))
    np.matmul(left, right.transpose(0, 2, 1), out=products)
    sums: Float64 = products.sum(axis=0, dtype=np.float64)
    return sums[:, :n]


_here = threading.local()


def _kept(name: str, shape: tuple[int, ...]) -> Single:
    """Return memory of this thread, of any content: the first pages of fresh memory are slow."""
    size = math.prod(shape)
    if size > _MOST_KEPT:
        return np.empty(shape, np.float32)
    kept: Single = getattr(_here, name, np.empty(0, np.float32))
    if kept.size < size:
        kept = np.empty(size, np.float32)
        setattr(_here, name, kept)
    return kept[:size].reshape(shape)


def _add_product(block: Float64, g: Float64) -> None:
    """Add the inner products of all rows of a block but the last, which is spare, to ``g``."""
    rows = block[:-1]
    if not _likes_spare_row(len(rows)):
        g += rows @ rows.T
        return
    strip = _SMALL_PRODUCT // (len(rows) * len(block)) // 64 * 64
    for start in range(0, rows.shape[1], strip):
        columns = slice(start, start + strip)
        g += (rows[:, columns] @ block[:, columns].T)[:, :-1]


def _likes_spare_row(n: int) -> bool:
    """Say whether products of n rows with n + 1 are faster than the n x n symmetric ones.

    OpenBLAS for AVX-512 has fast kernels for small products of different matrices. NumPy sees that
    these are the same and asks for the symmetric product, which has none.
    """
    return n * (n + 1) * _LEAST_STRIP <= _SMALL_PRODUCT and blas_is_one_of(*_WITH_SMALL_KERNELS)
