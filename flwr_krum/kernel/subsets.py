"""Sums over every set that leaves out k of n clients, without a loop over sets.

Cut the clients in two halves. For each half there is a table of all ways to leave out a few of it,
with the sum over the pairs that each way keeps. A set that leaves out j on the left and k - j on
the right is one entry of a product of (ways on the left x n/2) with (n/2 x ways on the right): what
is kept is added up, never the total less what is left out, in which a far client would leave
nothing of the others' digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from flwr_krum.kernel.arrays import Float64, Indices

MOST_IN_TABLE = 2**21
"""Numbers in the table of one half: 16 MiB."""

IN_CACHE = 2**14
"""Sets in a block."""


@lru_cache(maxsize=64)
def most_left_out(n: int, most_sets: int) -> int:
    """Return the largest k < n / 2 with at most so many sets, and tables of bearable size."""
    k, half = -1, n - n // 2
    while k + 1 < (n + 1) // 2 and comb(n, k + 1) <= most_sets:
        if half * sum(comb(half, j) for j in range(k + 2)) > MOST_IN_TABLE:
            break
        k += 1
    return k


class _Ways(NamedTuple):
    """All ways to leave out at most so many of a half; those that leave out j at ``first[j]``."""

    keeps: Float64
    first: tuple[int, ...]

    def leaving(self, j: int) -> slice:
        return slice(self.first[j], self.first[j + 1])


@lru_cache(maxsize=8)
def _ways(a: int, most: int) -> _Ways:
    rows, first = [], [0]
    for j in range(min(a, most) + 1):
        out = np.array(list(combinations(range(a), j)), dtype=np.intp).reshape(comb(a, j), j)
        kept = np.ones((len(out), a))
        np.put_along_axis(kept, out, 0.0, axis=1)
        rows.append(kept)
        first.append(first[-1] + len(out))
    keeps = np.concatenate(rows)
    keeps.setflags(write=False)
    return _Ways(keeps, tuple(first))


class Block(NamedTuple):
    """Sums over sets; entry (a, b) is of one way on the left and one on the right.

    Attributes
    ----------
    pairs : (a, b)
        Sums over all ordered pairs in the set, which the caller may overwrite.
    left, right : slice
        The ways, as `Halves.sums` and `Halves.members` want them.
    """

    pairs: Float64
    left: slice
    right: slice


class Halves:
    """All sets of n clients that leave out at most ``most`` of them.

    Parameters
    ----------
    pairs : (n, n)
        What is added up over pairs: symmetric, 0 on the diagonal, not negative.
    most : int
    """

    def __init__(self, pairs: Float64, most: int) -> None:
        n = len(pairs)
        self._cut = a = n // 2
        self._left, self._right = _ways(a, most), _ways(n - a, most)
        left, right = self._left.keeps, self._right.keeps
        own_left = np.einsum("wi,wi->w", left @ pairs[:a, :a], left)
        own_right = np.einsum("wi,wi->w", right @ pairs[a:, a:], right)
        # With two more columns one product adds the pairs within the halves as well.
        self._rows = np.column_stack([left, own_left, np.ones(len(left))])
        across = 2.0 * (pairs[:a, a:] @ right.T)
        self._columns = np.vstack([across, np.ones(len(right)), own_right])

    def sums(self, values: Float64) -> tuple[Float64, Float64]:
        """Return the sums of values (n,) over what each way keeps, on the left and the right."""
        return self._left.keeps @ values[: self._cut], self._right.keeps @ values[self._cut :]

    def leaving(self, k: int) -> Iterator[Block]:
        """Yield blocks of all sets that leave out k clients, in a fixed order."""
        in_left, in_right = (ways.keeps.shape[1] for ways in (self._left, self._right))
        for j in range(max(0, k - in_right), min(k, in_left) + 1):
            ways, right = self._left.leaving(j), self._right.leaving(k - j)
            step = max(1, IN_CACHE // (right.stop - right.start))
            for start in range(ways.start, ways.stop, step):
                left = slice(start, min(ways.stop, start + step))
                yield Block(self._rows[left] @ self._columns[:, right], left, right)

    def members(self, block: Block, index: int) -> Indices:
        """Return the clients of the set at a flat index of a block."""
        a, b = divmod(index, block.right.stop - block.right.start)
        left = self._left.keeps[block.left.start + a]
        right = self._right.keeps[block.right.start + b]
        return np.flatnonzero(np.concatenate([left, right]))
