"""Who holds which examples: labels in, one array of row numbers per client out.

A split is called with the labels (N,), the number of clients n and a generator, from which alone it
draws; it returns n arrays that have no row in common. Every row is somebody's, unless the split's
docstring says which are not. A client may come out empty where no least size forbids it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Labels = NDArray[np.int64]

TRIES = 11
"""Draws until every client has the least size: the first, and ten more (as flwr-datasets)."""


class Split(ABC):
    """A way to divide labelled examples among clients."""

    @abstractmethod
    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Return the rows of each client.

        Parameters
        ----------
        labels : np.ndarray
            (N,), of any kind that can be sorted.
        n : int
            Clients, 1 <= n <= N.
        rng : np.random.Generator
            All that is drawn is drawn from it.

        Raises
        ------
        ValueError
            If the split does not exist for these n and N.
        """


@dataclass(frozen=True)
class Iid(Split):
    """Deal a permutation of all rows; sizes differ by at most 1."""

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Cut a permutation into n blocks."""
        _check_clients(labels, n)
        return np.array_split(rng.permutation(len(labels)), n)


@dataclass(frozen=True)
class Dirichlet(Split):
    """Share out each class by proportions p ~ Dir(alpha 1_n), for every class anew.

    Classes in sorted order; a class of m rows is cut, in the order of the rows, at
    ``int(cumsum(p) m)``. These are the sets of flwr-datasets' ``DirichletPartitioner`` for the
    same generator, alpha, least size and balance. Source: Yurochkin et al., ICML 2019; Hsu et al.
    2019 draw per client, see `ClientDirichlet`.

    Parameters
    ----------
    alpha : float (default: 0.1)
        Concentration, > 0: the smaller, the fewer classes a client holds.
    least : int (default: 10)
        Rows that every client must have; all is drawn anew until it is so, at most 11 times.
    balanced : bool (default: False)
        Whether a client that has more than N/n rows gets nothing of the next classes.
    """

    alpha: float = 0.1
    least: int = 10
    balanced: bool = False

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        _check_whole("least", self.least, 0)

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Draw until every client has its least size."""
        _check_least(self.least, labels, n)
        classes = _rows_by_class(labels)
        best = 0
        for _ in range(TRIES):
            shards = self._draw(classes, n, rng)
            smallest = min(map(len, shards))
            if smallest >= self.least:
                return shards
            best = max(best, smallest)
        raise ValueError(
            f"of {TRIES} draws with alpha={self.alpha:g} for n = {n} clients and "
            f"N = {len(labels)} examples none gives every client least={self.least}: the smallest "
            f"client had at most {best}; take least <= {best}, a larger alpha, fewer clients, "
            "or balanced=true"
        )

    def _draw(self, classes: list[Rows], n: int, rng: np.random.Generator) -> list[Rows]:
        rows = np.concatenate(classes)
        owners, sizes = [], np.zeros(n, np.int64)
        for own in classes:
            shares = _dirichlet(self.alpha, n, rng)
            if self.balanced:
                shares = _renormalised(shares, sizes <= len(rows) / n)
            cuts = (np.cumsum(shares) * len(own)).astype(np.int64)[:-1]
            counts = np.diff(cuts, prepend=0, append=len(own))
            owners.append(np.repeat(np.arange(n), counts))
            sizes += counts
        by_owner = rows[np.argsort(np.concatenate(owners), kind="stable")]
        return np.split(by_owner, np.cumsum(sizes)[:-1])


@dataclass(frozen=True)
class ClientDirichlet(Split):
    """Give each client a mixture of classes of its own, q ~ Dir(alpha 1_C), and N/n rows of it.

    Rows are drawn without replacement, one client after the other; a class that is used up is
    taken out of q, whose rest is renormalised. Sizes differ by at most 1. Source: Hsu, Qi, Brown:
    "Measuring the Effects of Non-Identical Data Distribution", 2019, section 3.1, with a uniform
    prior.

    Parameters
    ----------
    alpha : float (default: 0.1)
        Concentration, > 0: the smaller, the fewer classes a client holds.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Fill one client after the other."""
        _check_clients(labels, n)
        decks = [rng.permutation(rows) for rows in _rows_by_class(labels)]
        left = np.array([len(deck) for deck in decks])
        shards = []
        for size in _even_sizes(len(labels), n):
            taken = self._taken(_dirichlet(self.alpha, len(decks), rng), left, size, rng)
            shards.append(
                np.concatenate(
                    [deck[end - k : end] for deck, end, k in zip(decks, left, taken, strict=True)]
                )
            )
            left = left - taken
        return shards

    def _taken(
        self, mixture: NDArray[np.float64], left: Rows, size: int, rng: np.random.Generator
    ) -> Rows:
        """Return how many of each class a client takes, as if it drew them one by one."""
        taken = np.zeros_like(left)
        while size:
            odds = _renormalised(mixture, taken < left)
            drawn = rng.choice(len(left), size, p=odds)
            # Draws count up to the one that uses up a class: from there on the odds are others.
            hits = (np.flatnonzero(drawn == c) for c in range(len(left)))
            ends = [
                places[room - 1] + 1
                for places, room in zip(hits, left - taken, strict=True)
                if 0 < room <= len(places)
            ]
            drawn = drawn[: min(ends, default=size)]
            taken += np.bincount(drawn, minlength=len(left))
            size -= len(drawn)
        return taken


@dataclass(frozen=True)
class GammaSimilarity(Split):
    """Deal a share gamma of the rows at random, and the rest in the order of their labels.

    The first ``floor(gamma N)`` rows of a permutation are cut into n blocks; the others, sorted by
    (label, row), into n blocks of neighbours; client i gets block i of both. Source: Karimireddy
    et al., ICML 2020, section 7; ByzFL.

    Parameters
    ----------
    gamma : float (default: 0.33)
        ``0 <= gamma <= 1``; 1 is i.i.d., 0 is `Extreme`.
    """

    gamma: float = 0.33

    def __post_init__(self) -> None:
        if not _is_number(self.gamma) or not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma!r}, expected a number from 0 to 1")

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Join the blocks of both parts."""
        _check_clients(labels, n)
        order = rng.permutation(len(labels))
        mixed, rest = np.split(order, [math.floor(self.gamma * len(labels))])
        both = zip(np.array_split(mixed, n), _sorted_blocks(labels, np.sort(rest), n), strict=True)
        return [np.concatenate(blocks) for blocks in both]


@dataclass(frozen=True)
class Extreme(Split):
    """Sort the rows by (label, row) and cut them into n blocks of neighbours; draws nothing.

    Sizes differ by at most 1. Source: ByzFL.
    """

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Cut the sorted rows."""
        _check_clients(labels, n)
        return _sorted_blocks(labels, np.arange(len(labels)), n)


@dataclass(frozen=True)
class Shards(Split):
    """Sort the rows by label, cut them into pieces, and deal each client some at random.

    There are ``each n`` pieces of ``N // (each n)`` rows; the rows beyond the last piece, fewer
    than ``each n`` of the last label, are nobody's. Source: McMahan et al., AISTATS 2017,
    section 3.

    Parameters
    ----------
    each : int (default: 2)
        Pieces of a client, >= 1.
    """

    each: int = 2

    def __post_init__(self) -> None:
        _check_whole("each", self.each, 1)

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Deal the pieces."""
        _check_clients(labels, n)
        pieces = self.each * n
        size = len(labels) // pieces
        if not size:
            raise ValueError(
                f"each is {self.each} for n = {n} clients, expected at most {len(labels) // n}: "
                f"N = {len(labels)} examples make no {pieces} pieces"
            )
        order = np.argsort(labels, kind="stable")[: pieces * size].reshape(pieces, size)
        return list(order[rng.permutation(pieces)].reshape(n, -1))


@dataclass(frozen=True)
class QuantitySkew(Split):
    """Give each client ``least`` rows, and share out the others by p ~ Dir(alpha 1_n).

    Only sizes differ: the rows themselves are dealt from a permutation. Source: Li, Diao, Chen,
    He: "Federated Learning on Non-IID Data Silos", ICDE 2022, section IV-C.

    Parameters
    ----------
    alpha : float (default: 1.0)
        Concentration, > 0: the smaller, the more the sizes differ.
    least : int (default: 1)
        Rows that every client has.
    """

    alpha: float = 1.0
    least: int = 1

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        _check_whole("least", self.least, 0)

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Cut a permutation at the sizes that are drawn."""
        _check_least(self.least, labels, n)
        shared = len(labels) - n * self.least
        cuts = (np.cumsum(_dirichlet(self.alpha, n, rng)) * shared).astype(np.int64)[:-1]
        return np.split(rng.permutation(len(labels)), cuts + self.least * np.arange(1, n))


@dataclass(frozen=True)
class Classes(Split):
    """Give each client k classes, and each class in even parts to those that have it.

    In turn, client i has the classes ``i k, ..., i k + k - 1`` modulo C of the C in sorted order;
    at random, k of them. Rows of a class that nobody has are nobody's: in turn there are none if
    ``n k >= C``. Source: flwr-datasets' ``PathologicalPartitioner``; FedLab.

    Parameters
    ----------
    k : int (default: 2)
        Classes of a client, >= 1.
    dealt : "turn" | "random" (default: "turn")
        How classes are chosen; which rows of a class a client gets is drawn either way.
    """

    k: int = 2
    dealt: str = "turn"

    def __post_init__(self) -> None:
        _check_whole("k", self.k, 1)
        if self.dealt not in ("turn", "random"):
            raise ValueError(f"dealt is {self.dealt!r}, expected 'turn' or 'random'")

    def __call__(self, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
        """Deal classes, then rows."""
        _check_clients(labels, n)
        names, of_row = np.unique(labels, return_inverse=True)
        count = len(names)
        if self.k > count:
            raise ValueError(f"k is {self.k}, expected an integer from 1 to {count}: the classes")
        held = np.arange(n * self.k).reshape(n, self.k) % count
        if self.dealt == "random":
            held = np.array([rng.choice(count, self.k, replace=False) for _ in range(n)])
        own: list[list[Rows]] = [[] for _ in range(n)]
        for c in range(count):
            holders = np.flatnonzero((held == c).any(axis=1))
            if len(holders):
                rows = rng.permutation(np.flatnonzero(of_row == c))
                parts = np.array_split(rows, len(holders))
                for holder, part in zip(holders, parts, strict=True):
                    own[holder].append(part)
        return [np.concatenate(parts) for parts in own]


SPLITS: Mapping[str, type[Split]] = {
    "iid": Iid,
    "dirichlet": Dirichlet,
    "client-dirichlet": ClientDirichlet,
    "gamma-similarity": GammaSimilarity,
    "extreme": Extreme,
    "shards": Shards,
    "classes": Classes,
    "quantity-skew": QuantitySkew,
}
"""The splits by the names under which they are written."""


def _rows_by_class(labels: Labels) -> list[Rows]:
    """Return the rows of each class in ascending order, classes in sorted order."""
    order = np.argsort(labels, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    return np.split(order, first[1:])


def _sorted_blocks(labels: Labels, rows: Rows, n: int) -> list[Rows]:
    """Sort ascending rows by their labels, and cut them into n blocks."""
    return np.array_split(rows[np.argsort(labels[rows], kind="stable")], n)


def _even_sizes(total: int, n: int) -> list[int]:
    """Return n sizes that differ by at most 1, the larger ones first."""
    return [total // n + (i < total % n) for i in range(n)]


def _dirichlet(alpha: float, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw k proportions.

    Raises
    ------
    ValueError
        If alpha is so large or small that float64 holds no such proportions.
    """
    shares: NDArray[np.float64] = rng.dirichlet(np.full(k, float(alpha)))
    if not abs(shares.sum() - 1) < 1e-6:
        raise ValueError(f"alpha is {alpha!r}, expected a number that float64 can draw with")
    return shares


def _renormalised(shares: NDArray[np.float64], open_: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the shares of those that are open, in sum 1; equal ones where all of them are 0."""
    kept = np.where(open_, shares, 0.0)
    total = np.cumsum(kept)[-1]  # in order, as flwr-datasets adds up: the last bit moves a row
    if total > 0:
        kept /= total
        return kept
    return open_.astype(np.float64) / np.count_nonzero(open_)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_alpha(alpha: float) -> None:
    if not _is_number(alpha) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha!r}, expected a finite number > 0")


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {least}")


def _check_clients(labels: Labels, n: int) -> None:
    if not 1 <= n <= len(labels):
        raise ValueError(f"n is {n}, expected 1 to {len(labels)}: the examples there are")


def _check_least(least: int, labels: Labels, n: int) -> None:
    _check_clients(labels, n)
    if n * least > len(labels):
        raise ValueError(
            f"least is {least} for n = {n} clients and N = {len(labels)} examples, expected an "
            f"integer from 0 to {len(labels) // n}"
        )
