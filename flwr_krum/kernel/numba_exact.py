"""What compiled kernels find out without any rounding (extra ``fast``).

Exact squared distances from inner products in whole numbers, which `kernel.numba_windows` adds up,
and fingerprints of models, which tell those that are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel import numba_loops, numba_windows
from flwr_krum.kernel.arrays import Indices
from flwr_krum.kernel.exact import (
    SHIFT,
    Squares,
    add_squares,
    exact_squared_distance,
    most_differences,
    pair_count,
)
from flwr_krum.kernel.threads import spread
from flwr_krum.kernel.updates import PIECE, Buffers, ClientUpdates

_STRIP = 2**14
"""Columns of one task of exact inner products."""

_MOST_DIGITS = 2**20
"""Digits of inner products that are kept at a time: 8 MiB for each thread."""

_MOST_WINDOWS = 300_000
"""Windows of 1024 columns that exact inner products may always take: .08 s on two cores."""

_SHARE_OF_ROUND = 8192
"""So many of a round's products take as long as one window more."""

_DIGITS = {True: (-480, 20), False: (-2400, 98)}
"""Exponent of the lowest digit, and how many there are, for float32 alone and with float64."""


def exact_squares(updates: ClientUpdates, buffers: Buffers, rows: Sequence[int]) -> Squares | None:
    """Return ``2^SHIFT ||V_i - V_j||^2`` of some clients i from all, as `kernel.exact` does.

    ``D_ij = G_ii + G_jj - 2 G_ij``, where G holds inner products of the models as they came, in
    whole numbers. None where that would take more windows than a part of a round may.
    """
    found: Squares = {}
    left = _MOST_WINDOWS + updates.n**2 * updates.d // _SHARE_OF_ROUND
    single = all(dtype.itemsize == 4 for dtype in buffers.dtypes)
    lowest, digits = _DIGITS[single]
    many = max(1, _MOST_DIGITS // (updates.n * digits) - 1)
    pairs = pair_count(updates.n, len(rows))
    if (pairs + updates.n) * updates.d * (2 if single else 4) // numba_windows.COLUMNS > left:
        return None
    for start in range(0, len(rows), many):
        some = np.array(rows[start : start + many], dtype=np.intp)
        products = np.zeros((some.size + 1, updates.n, digits), np.int64)
        unfit: list[tuple[int, int, int]] = []
        for part, windows, out in _products(updates, buffers, some, lowest, digits):
            left -= windows
            if left < 0:
                return None
            products += part
            numba_windows.carry(products)
            unfit += out
        if pairs * sum(last - first for _, first, last in unfit) > most_differences(updates):
            return None
        beside = _Beside(updates, unfit)
        add_squares(found, some.tolist(), updates.n, _squares(products, some, lowest, beside))
    return found


class _Beside(NamedTuple):
    """Blocks (piece, first, last) of columns that no window holds."""

    updates: ClientUpdates
    blocks: Sequence[tuple[int, int, int]]

    def square(self, i: int, j: int) -> int:
        """Return what two clients' squared distance has of them."""
        a, b = (
            [self.updates.flat[k][piece][first:last] for piece, first, last in self.blocks]
            for k in (i, j)
        )
        return exact_squared_distance(a, b)


def _squares(
    products: NDArray[np.int64], rows: Indices, lowest: int, beside: _Beside
) -> Callable[[int, int], int]:
    """Return a function of two clients, the first one of the rows: their squared distance."""
    *whole, own = _whole(products)
    of = dict(zip(rows.tolist(), whole, strict=True))

    def square(i: int, j: int) -> int:
        inside: int = own[i] + own[j] - 2 * of[i][j] << SHIFT + lowest
        return inside + beside.square(i, j)

    return square


def _products(
    updates: ClientUpdates, buffers: Buffers, rows: Indices, lowest: int, digits: int
) -> Iterator[tuple[NDArray[np.int64], int, list[tuple[int, int, int]]]]:
    """Yield digits of inner products, the windows they took, and the blocks that are not in them.

    Strip by strip of columns, in their order.
    """
    width = numba_windows.COLUMNS

    def work(strip: tuple[int, int, int]) -> tuple[NDArray[np.int64], int, NDArray[np.bool_]]:
        piece, first, last = strip
        sums = np.zeros((rows.size + 1, updates.n, digits), np.int64)
        unfit = np.zeros(-(-(last - first) // width), np.bool_)
        zero = buffers.dtypes[piece].type(0)
        found = buffers.at(piece, first, last)
        windows = numba_windows.add_products(
            found.clients, rows, first, last, zero, zero.itemsize == 4, lowest, sums, unfit
        )
        return sums, windows, unfit

    strips = [
        strip
        for start in range(0, updates.d, _STRIP)
        for strip in updates.segments(start, min(updates.d, start + _STRIP))
    ]
    for (piece, first, last), (sums, windows, unfit) in zip(
        strips, spread(work, strips), strict=True
    ):
        starts = (first + np.flatnonzero(unfit) * width).tolist()
        yield sums, windows, [(piece, a, min(last, a + width)) for a in starts]


def _whole(digits: NDArray[np.int64]) -> list[list[int]]:
    """Return the numbers (a, b) that carried digits (a, b, k) write."""
    a, b, k = digits.shape
    size = numba_windows.DIGIT // 8
    low = digits[..., :-1].astype("<i8").view(np.uint8).reshape(a, b, k - 1, 8)[..., :size]
    data, width, top = low.tobytes(), size * (k - 1), digits[..., -1].tolist()
    starts = iter(range(0, a * b * width, width))
    return [
        [
            (sign << 8 * width) + int.from_bytes(data[start : start + width], "little")
            for sign, start in zip(row, starts, strict=False)
        ]
        for row in top
    ]


def fingerprints(updates: ClientUpdates, buffers: Buffers, clients: Indices) -> dict[int, int]:
    """Return numbers of 64 bits that are equal for clients of equal models.

    For others they are equal by chance alone: what they are multiplied by nobody knows.
    """
    some = buffers.of(clients)

    def work(start: int) -> NDArray[np.uint64]:
        sums = np.zeros(len(clients), np.uint64)
        for piece, first, last in updates.segments(start, min(updates.d, start + PIECE)):
            zero = buffers.dtypes[piece].type(0)
            found, salt = some.at(piece, first, last), np.uint64(piece)
            numba_loops.add_fingerprints(found.clients, first, last, zero, _factors(), salt, sums)
        return sums

    sums = np.zeros(len(clients), np.uint64)
    for part in spread(work, range(0, updates.d, PIECE)):
        sums += part
    return dict(zip(clients.tolist(), sums.tolist(), strict=True))


@cache
def _factors() -> NDArray[np.uint64]:
    """Return factors that are drawn anew by every process: odd ones, which lose no bit."""
    drawn = np.random.default_rng().integers(2**64, size=numba_loops.FLUSH + 1, dtype=np.uint64)
    return drawn | np.uint64(1)
