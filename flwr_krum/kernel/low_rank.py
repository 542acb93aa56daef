"""Distances between products of layers, such as LoRA's B A, of which none is ever formed.

``(B R, R^-1 A)`` is the same model as ``(B, A)`` for every invertible R: the space of models is
that of the products. An offset from the global model is one of twice the rank, of nothing but
differences::

    B_i A_i - B_g A_g = [B_i - B_g, B_g] [A_i ; A_i - A_g] = L_i R_i
    <L_i R_i, L_j R_j> = sum over a, b of (L_i^T L_j)_ab (R_i R_j^T)_ab

so that an inner product takes two small blocks instead of ``out x in`` numbers. Their entries are
sums of inner products among r rows of differences for each client and r of the global model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64, Indices, are_finite
from flwr_krum.kernel.distances import UNIT, Distances, below_diagonal
from flwr_krum.kernel.updates import ClientUpdates

NUMBERS = 2**20
"""Numbers in each of the few matrices that are held at a time, where the ranks allow it."""

NARROWEST = 64
"""Columns of a factor that are read at a time, at least."""


class _Pair(NamedTuple):
    """The factors of all rows' products: ``left[i].T @ right[i]``; those of the global model."""

    left: Sequence[Array]
    right: Sequence[Array]
    left_base: Array | None
    right_base: Array | None


def product_distances(updates: ClientUpdates, plain: Distances | None) -> Distances:
    """Return the distances of all rows with products in the place of the layers in pairs.

    In float64. The error of an inner product is at most ``dot S_i S_j`` where, over the lengths of
    single columns of B and rows of A::

        S_i = sum_a |b_i - b_g| (|a_i - a_g| + |a_g|) + |b_g| |a_i - a_g|

    is never less than the offset's length, and greater the more of it cancels: a client in
    another basis is placed less sharply.

    Parameters
    ----------
    updates : ClientUpdates
        With ``products``.
    plain : Distances, optional
        Of the layers that are in no pair; they add up.
    """
    gram, sizes, dot_error = _inner_products(updates)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.diagonal(gram)
        squared = np.maximum(norms[:, None] + norms[None, :] - 2.0 * gram, 0.0)
        error = 2.0 * dot_error * (sizes[:, None] + sizes[None, :])
        if plain is not None:
            unit = plain.scale**2
            gram = gram + plain.gram / unit
            sizes = sizes + np.diagonal(plain.gram) / unit
            squared = squared + plain.squared / unit
            error = error + plain.error / unit + 4.0 * UNIT * squared
            dot_error = max(dot_error, plain.dot_error)
        twins = below_diagonal(updates.rows) & (squared <= error)
        # Of a float64, little is left of how much shorter an offset is than its factors.
        lengths = np.maximum(np.diagonal(gram), 0.0)
        ratios = np.divide(sizes, lengths, out=np.full(len(sizes), np.inf), where=lengths > 0.0)
    for i, j in np.argwhere(twins).tolist():
        if updates.are_equal(i, j):
            squared[i, j] = squared[j, i] = error[i, j] = error[j, i] = 0.0
    squared[~np.isfinite(squared)] = np.inf
    np.fill_diagonal(squared, 0.0)
    np.fill_diagonal(error, 0.0)
    error[~np.isfinite(squared)] = 0.0
    known = np.isfinite(sizes) & (sizes > 0.0)
    largest = float(ratios[known].max(initial=1.0))
    finite = np.array([ok or _is_finite(updates, i) for i, ok in enumerate(np.isfinite(sizes))])
    return Distances(squared, error, finite, gram, dot_error * largest)


def width(updates: ClientUpdates) -> int:
    """Return the number of coordinates of all products and of what is in no pair."""
    formed = (pair.left[0].shape[1] * pair.right[0].shape[1] for pair in _pairs(updates))
    return int(updates.plain.d + sum(formed))


def columns(updates: ClientUpdates, chosen: Indices) -> Float64:
    """Return some coordinates (n, b) of the clients' offsets: what is in no pair comes first."""
    found = np.empty((updates.n, chosen.size))
    begin = updates.plain.d
    here = chosen < begin
    if here.any():
        found[:, here] = updates.plain.read_columns(chosen[here])
    scale = 1.0 if updates.products is None else updates.products.scale
    for pair in _pairs(updates):
        inner = pair.right[0].shape[1]
        end = begin + pair.left[0].shape[1] * inner
        here = (chosen >= begin) & (chosen < end)
        at = np.divmod(chosen[here] - begin, inner)
        found[:, here] = scale * _entries(pair, updates.n, *at)
        begin = end
    return found


def _entries(pair: _Pair, n: int, rows: Indices, inner: Indices) -> Float64:
    """Return entries of the first n offsets (n, b) at some rows and columns of the products."""
    left, right = (
        np.stack([factor[:, at].astype(np.float64) for factor in factors[:n]])
        for factors, at in ((pair.left, rows), (pair.right, inner))
    )
    if pair.left_base is None or pair.right_base is None:
        entries: Float64 = np.einsum("nrb,nrb->nb", left, right)
        return entries
    left_base = pair.left_base[:, rows].astype(np.float64)
    offsets: Float64 = np.einsum("nrb,nrb->nb", left - left_base, right)
    offsets += np.einsum("rb,nrb->nb", left_base, right - pair.right_base[:, inner])
    return offsets


def _pairs(updates: ClientUpdates) -> Iterator[_Pair]:
    rows = [*updates.models, *updates.server_rows.values()]
    base = updates.reference
    for a, b in updates.products.pairs if updates.products else ():
        yield _Pair(
            [np.asarray(row[b]).T for row in rows],
            [np.asarray(row[a]) for row in rows],
            None if base is None else base[b].T,
            None if base is None else base[a],
        )


def _inner_products(updates: ClientUpdates) -> tuple[Float64, Float64, float]:
    """Return the inner products of the offsets, the squares of their ``S_i``, and ``dot``."""
    n = updates.rows
    gram, sizes, most = np.zeros((n, n)), np.zeros(n), 0
    pairs = list(_pairs(updates))
    with np.errstate(over="ignore", invalid="ignore"):
        for pair in pairs:
            r = len(pair.right[0])
            step = max(1, NUMBERS // ((n + 1) * r * r))
            for first in range(0, n, step):
                last = min(n, first + step)
                left = _blocks(pair.left[first:], pair.left_base, last - first)
                right = _blocks(pair.right[first:], pair.right_base, last - first)
                gram[first:last, first:] += _contracted(left, right)
                sizes[first:last] += _sizes(left, right) ** 2
            most = max(most, pair.left[0].shape[1] + pair.right[0].shape[1] + r * r)
        scale = 1.0 if updates.products is None else updates.products.scale
        gram = scale**2 * (np.triu(gram) + np.triu(gram, 1).T)
        # Sums of so many products; one more for each block that is read, for each pair, and for
        # the differences, sums and products of blocks.
        additions = most + most // NARROWEST + len(pairs) + 24
        return gram, scale**2 * sizes, additions * UNIT


def _contracted(left: Float64, right: Float64) -> Float64:
    """Return the inner products (c, m) of offsets from the blocks of `_blocks`."""
    b, b_base, base_b, base_base = _parts(left)
    a, a_base, base_a, _ = _parts(right)
    own = a + a_base + base_a + right[-1:, :, -1:]  # A_i A_j^T
    found: Float64 = np.einsum("iajb,iajb->ij", b, own)
    found += (b_base * (a + base_a)).sum(axis=(1, 3))
    found += (base_b * (a + a_base)).sum(axis=(1, 3))
    found += (base_base * a).sum(axis=(1, 3))
    return found


def _parts(blocks: Float64) -> tuple[Float64, Float64, Float64, Float64]:
    """Return clients by clients, clients by model, model by clients, model by model."""
    return blocks[:-1, :, :-1], blocks[:-1, :, -1:], blocks[-1:, :, :-1], blocks[-1:, :, -1:]


def _sizes(left: Float64, right: Float64) -> Float64:
    """Return ``S_i`` of the first clients (c,)."""
    (b, b_base), (a, a_base) = _lengths(left), _lengths(right)
    sizes: Float64 = (b * (a + a_base) + b_base * a).sum(axis=1)
    return sizes


def _lengths(blocks: Float64) -> tuple[Float64, Float64]:
    """Return the lengths of the first clients' rows (c, r), and of the global model's (r,)."""
    count = len(blocks) - 1
    squares = np.einsum("iaia->ia", blocks[:count, :, :count])
    return np.sqrt(squares), np.sqrt(np.diagonal(blocks[-1, :, -1]))


def _blocks(factors: Sequence[Array], base: Array | None, count: int) -> Float64:
    """Return the inner products of the first rows' factors with all, (count + 1, r, n + 1, r).

    Factors are offsets from the global model's, which comes after them.
    """
    n, (r, length) = len(factors), factors[0].shape
    found = np.zeros(((count + 1) * r, (n + 1) * r))
    step = max(NARROWEST, NUMBERS // ((n + 1) * r))
    for start in range(0, length, step):
        block = _read(factors, base, slice(start, start + step))
        first = block if count == n else np.concatenate([block[: count * r], block[-r:]])
        found += first @ block.T
    return found.reshape(count + 1, r, n + 1, r)


def _read(factors: Sequence[Array], base: Array | None, part: slice) -> Float64:
    """Return columns of the factors' offsets, and of the global model's factor: (n r + r, w)."""
    rows = [factor[:, part] for factor in factors]
    rows.append(np.zeros_like(rows[0]) if base is None else base[:, part])
    # Copy first, then subtract: subtracting float32 arrays rounds to float32.
    block = np.stack(rows).astype(np.float64)
    block[:-1] -= block[-1]
    return block.reshape(-1, block.shape[2])


def _is_finite(updates: ClientUpdates, row: int) -> bool:
    return are_finite(updates.flat_rows[row])
