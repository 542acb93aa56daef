"""Windows of sorted values, and the sorting networks that lead to them.

A network is a fixed list of comparisons that sorts n values, whatever they are. Whole rows of
numbers go through it at once, without a branch. Comparisons that cannot reach a wanted rank are
left out.

Source: Knuth, "The Art of Computer Programming", volume 3, section 5.2.2, algorithm M (Batcher's
merge exchange).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from flwr_krum.kernel.arrays import Array


@dataclass(frozen=True)
class Window:
    """The mean of ``keep`` neighbouring values among ranks ``first`` to ``last - 1`` of n.

    Where there are more than ``keep`` of them, those closest to a centre; the smaller ones if two
    are equally close. The centre is the mean of all n = ``last`` values but ``trim`` at each end,
    by default the median.
    """

    first: int
    last: int
    keep: int
    trim: int | None = None

    @property
    def ranks(self) -> range:
        """The ranks that must be known."""
        return range(self.first, self.last)

    @property
    def centre(self) -> range:
        """The ranks whose mean is the centre."""
        trim = (self.last - 1) // 2 if self.trim is None else self.trim
        return range(trim, self.last - trim)


@dataclass(frozen=True)
class WeightedWindow:
    """The mean of the sorted values that lie between two places of their rows' shares.

    ``sum_i t_i v_(i)``, with t what is taken of the shares between ``cut`` and ``1 - cut``, a
    share across a place in part. At 1/2, the median: the value at that place, of two that meet
    there the mean.

    Attributes
    ----------
    shares : tuple of k floats
        Of sum 1.
    cut : float
        At each end, in [0, 1/2].
    """

    shares: tuple[float, ...]
    cut: float


class Comparator(NamedTuple):
    """Put the smaller of two rows into the first and the larger into the second.

    ``low`` and ``high`` say which of the two results anything depends on: at least one.
    """

    first: int
    second: int
    low: bool
    high: bool


@cache
def network(n: int, ranks: range) -> tuple[Comparator, ...]:
    """Return comparators after which rows ``ranks`` of n hold the values of these ranks."""
    live = set(ranks)
    kept = []
    for first, second in reversed(tuple(_merge_exchange(n))):
        if first in live or second in live:
            kept.append(Comparator(first, second, first in live, second in live))
            live |= {first, second}
    return tuple(reversed(kept))


def sort_columns(rows: list[Array], ranks: range) -> None:
    """Sort the columns of some rows in place, in their own memory, as far as some ranks ask."""
    spare = np.empty_like(rows[0])
    for first, second, low, high in network(len(rows), ranks):
        a, b = rows[first], rows[second]
        if low and high:
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            rows[first], spare = spare, a
        elif low:
            np.minimum(a, b, out=a)
        else:
            np.maximum(a, b, out=b)


def _merge_exchange(n: int) -> Iterator[tuple[int, int]]:
    top = 1 << (n - 1).bit_length() >> 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            for i in range(n - d):
                if i & p == r:
                    yield i, i + d
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
