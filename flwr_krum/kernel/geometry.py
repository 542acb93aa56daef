"""The geometry that every rule decides from: inner products and distances of n updates.

Updates are offsets from the global model. A mixing (pre-aggregation) is a matrix M: the geometry
of the mixed rows is ``M G M^T``, n x n work and never another pass over the models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel import ranking
from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.ranking import Contrast, Ranking, Score

LARGEST = 1e300
"""What stands for an inner product or a squared distance that no float64 holds."""

NONE: Indices = np.empty(0, np.int64)
"""No rows."""

ROUNDED = 2.0**-40
"""More than what float64 rounds in an entry of M, and in a sum over pairs beside its terms."""

SUMS_TO_1 = 2.0**-45
"""How far a row of a mixing that moves nothing towards the global model may be from the sum 1."""

MOST_ROUGH = 64
"""Rows whose distances are worked out pair by pair: beyond it, n^4 is no longer small beside d."""


class Geometry(ABC):
    """The n x n view of n rows, and of the server's own rows after them.

    Attributes
    ----------
    n : int
        Rows that a rule decides over.
    server_rows : tuple of str
        Names of the rows that the server added; no client can touch them.
    scale : float
        The unit: lengths are in units of ``1 / scale``, squares of ``1 / scale^2``. A power of
        two, other than 1 only where float64 itself would overflow or underflow.
    """

    n: int
    server_rows: tuple[str, ...]

    @property
    @abstractmethod
    def scale(self) -> float:
        """The unit of lengths."""

    @property
    @abstractmethod
    def all_products(self) -> Float64:
        """Inner products (n + s, n + s) of the updates and the server's rows, in float64."""

    @property
    @abstractmethod
    def all_squared(self) -> Float64:
        """Squared distances (n + s, n + s) of the same rows, in float64; 0 on the diagonal."""

    @abstractmethod
    def rank(self, score: Score, count: int, contrast: Contrast | None = None) -> Ranking:
        """Return the ``count`` rows of smallest score, ties to the smallest index."""

    @property
    @abstractmethod
    def d(self) -> int:
        """Number of coordinates that a distance sees."""

    @abstractmethod
    def columns(self, chosen: Indices) -> Float64:
        """Return some coordinates (n, b) of the updates, in the models' own unit."""

    @property
    def gram(self) -> Float64:
        """Inner products (n, n) of the updates, of float64 quality on every device."""
        return self.all_products[: self.n, : self.n]

    @property
    def squared(self) -> Float64:
        """Squared distances (n, n), of float64 quality on every device; 0 on the diagonal."""
        return self.all_squared[: self.n, : self.n]

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """Which rows (n,) are not infinitely far: a float64 holds their squared length."""
        near: NDArray[np.bool_] = np.diagonal(self.gram) < LARGEST
        return near

    @cached_property
    def norms(self) -> Float64:
        """Lengths (n,) of the updates."""
        squares = np.where(self.near, np.maximum(np.diagonal(self.gram), 0.0), LARGEST)
        lengths: Float64 = np.sqrt(squares)
        return lengths

    def rough(self, sharp: Indices = NONE) -> tuple[Float64, Float64] | None:
        """Return squared distances (n, n) that cost less, and how wrong they may be.

        None where ``squared`` is at hand, or would cost no more. Those of some rows may be asked
        for as good as float64 has them.
        """
        return None

    def row_of(self, name: str) -> int:
        """Return where a server row stands in ``all_products`` and ``all_squared``.

        Raises
        ------
        ValueError
            If the server added no such row.
        """
        if name not in self.server_rows:
            raise ValueError(f"the server gives no row {name!r}, only {list(self.server_rows)}")
        return self.n + self.server_rows.index(name)

    def mixed(self, M: Float64) -> Geometry:
        """Return the geometry of ``y_r = sum_i M[r, i] u_i``; the server's rows stay as they are.

        Parameters
        ----------
        M : (m, n)
            What a row lacks of the sum 1 lies on the global model, whose update is zero.
        """
        return _Mixed(self, M)


class _Mixed(Geometry):
    """The geometry of mixed rows, worked out from that of the rows they are mixed from."""

    def __init__(self, base: Geometry, M: Float64) -> None:
        self.n = len(M)
        self.server_rows = base.server_rows
        self._base = base
        s = len(base.server_rows)
        self._mix = np.zeros((self.n + s, base.n + s))
        self._mix[: self.n, : base.n] = M
        self._mix[self.n :, base.n :] = np.eye(s)

    @property
    def scale(self) -> float:
        """The unit of lengths."""
        return self._base.scale

    @cached_property
    def all_products(self) -> Float64:
        """``M G M^T``."""
        with np.errstate(over="ignore", invalid="ignore"):
            products: Float64 = self._mix @ self._base.all_products @ self._mix.T
        return within_floats(products)

    @cached_property
    def all_squared(self) -> Float64:
        """Squared distances of the mixed rows, each from where less is rounded.

        With the global model among the points every row of M sums to 1, and for two such rows
        ``||y_r - y_s||^2 = P_rs - (P_rr + P_ss) / 2`` where ``P = M D M^T``: what is common to
        all cancels. From inner products nothing is left in it of how much a row was shortened.
        """
        products = self._base.all_products
        from_model = np.maximum(np.diagonal(products), 0.0)
        points = np.block(
            [[self._base.all_squared, from_model[:, None]], [from_model[None, :], np.zeros((1, 1))]]
        )
        mix = np.column_stack([self._mix, 1.0 - self._mix.sum(axis=1)])
        with np.errstate(over="ignore", invalid="ignore"):
            apart, apart_terms = _apart(mix, points, -0.5)
            within, within_terms = _apart(self._mix, products, 1.0)
            chosen = np.where(within_terms < apart_terms, within, apart)
            squared = np.maximum(chosen, 0.0)
        # The same mixture twice is the same row, whatever rounding made of it.
        twins = _first_alike(self._mix)
        squared[twins[:, None] == twins[None, :]] = 0.0
        return within_floats((squared + squared.T) / 2.0)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """Which rows have no share of one that is infinitely far."""
        far = np.flatnonzero(~self._base.near)
        near: NDArray[np.bool_] = np.all(self._mix[: self.n, far] == 0.0, axis=1)
        return near

    def rough(self, sharp: Indices = NONE) -> tuple[Float64, Float64] | None:
        """Return distances of the mixed rows from rough ones.

        ``||y_r - y_s||^2 = -1/2 sum_ij a_i a_j ||u_i - u_j||^2`` with ``a = M_r - M_s``, of sum 0.
        """
        rough, mix = self._base.rough(), self._mix
        if rough is None or self.n > MOST_ROUGH or np.abs(mix.sum(axis=1) - 1.0).max() > SUMS_TO_1:
            return None
        squared, error = rough
        size = np.abs(mix)
        apart, both = mix[:, None, :] - mix[None, :, :], size[:, None, :] + size[None, :, :]
        sizes = np.abs(apart) + ROUNDED * both
        with np.errstate(over="ignore", invalid="ignore"):
            found = _pairs(apart, squared, apart)
            wrong = _pairs(sizes, error + ROUNDED * squared, sizes)
            wrong += 2.0 * ROUNDED * _pairs(sizes, squared, both)
        return np.maximum(-0.5 * found, 0.0), 0.5 * wrong

    def rank(self, score: Score, count: int, contrast: Contrast | None = None) -> Ranking:
        """Return the ``count`` rows of smallest score, in float64."""
        if (rough := self.rough()) is not None and np.isfinite(rough).all():
            found = ranking.rank_where_certain(*rough, _first_alike(self._mix), score, count)
            if found is not None:
                return found
        return ranking.rank_as_rounded(self.squared, score, count)

    @property
    def d(self) -> int:
        """Number of coordinates that a distance sees."""
        return self._base.d

    def columns(self, chosen: Indices) -> Float64:
        """Return some coordinates (n, b) of the mixed rows."""
        mixed: Float64 = self._mix[: self.n, : self._base.n] @ self._base.columns(chosen)
        return mixed


def _first_alike(rows: Float64) -> Indices:
    """Return, for each row, the first one that is the same."""
    _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    alike: Indices = first[kind.reshape(-1)]
    return alike


def _pairs(left: Float64, form: Float64, right: Float64) -> Float64:
    """Return ``sum_ij left_rsi form_ij right_rsj`` for every r and s."""
    sums: Float64 = np.einsum("rsi,rsi->rs", left @ form, right)
    return sums


def _apart(mix: Float64, base: Float64, sign: float) -> tuple[Float64, Float64]:
    """Return squared distances of mixed rows from a form on pairs, and the sizes of their terms."""
    form, terms = mix @ base @ mix.T, np.abs(mix) @ np.abs(base) @ np.abs(mix).T
    own, own_terms = np.diagonal(form), np.diagonal(terms)
    squared = sign * (own[:, None] + own[None, :] - 2.0 * form)
    return squared, abs(sign) * (own_terms[:, None] + own_terms[None, :] + 2.0 * terms)


def within_floats(matrix: Array) -> Float64:
    """Return the matrix with what overflowed, or is not a number, as the largest there is."""
    return np.nan_to_num(matrix, nan=LARGEST, posinf=LARGEST, neginf=-LARGEST)
