"""Means of low-rank adapters that are means of their products, unlike those of their factors.

The mean of products ``B_i A_i`` is itself a product, of the factors side by side: exact, and of as
many times the rank. Its best approximation of a smaller rank is its truncated singular value
decomposition (Eckart, Young 1936), for which no product of layers need be formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flwr_krum.boundary.low_rank import LowRank
from flwr_krum.kernel.arrays import Array


def stacked(
    adapters: Sequence[Mapping[str, Array]],
    space: LowRank,
    *,
    weights: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
) -> dict[str, Array]:
    """Return the adapter whose products are the mean of those of several: their factors stacked.

    ``[w_1 B_1 ... w_m B_m] [A_1 ; ... ; A_m] = sum_i w_i B_i A_i``, of rank ``r_1 + ... + r_m``.

    Parameters
    ----------
    adapters : m mappings of key to array
        What is in no pair of ``space`` is left out.
    space : LowRank
        Names the pairs; its scale is the result's.
    weights : m numbers, optional
        By default 1/m each.
    scales : m numbers, optional
        ``alpha / r`` of each; by default all have that of ``space``. Adapters of different ranks
        need them: where they share alpha, their scales differ as well.

    Raises
    ------
    ValueError
        If there is no adapter, or one lacks a key or has factors that fit neither each other nor
        the others'; if ranks differ and scales are missing; if weights or scales are not m.

    Examples
    --------
    >>> import numpy as np
    >>> space = LowRank({"A": "B"})
    >>> both = [{"A": np.array([[1.0, 0.0]]), "B": np.array([[2.0]])},
    ...         {"A": np.array([[0.0, 1.0]]), "B": np.array([[4.0]])}]
    >>> mean = stacked(both, space)
    >>> mean["B"] @ mean["A"]
    array([[1., 2.]])
    """
    m = len(adapters)
    if m == 0:
        raise ValueError("no adapters, expected at least 1")
    shares = _numbers("weights", [1.0 / m] * m if weights is None else weights, m)
    own = _numbers("scales", [space.scale] * m if scales is None else scales, m)
    found: dict[str, Array] = {}
    for a, b in space.pairs.items():
        pairs = [_pair(adapter, a, b, f"adapter {i}") for i, adapter in enumerate(adapters)]
        ranks = sorted({len(right) for _, right in pairs})
        if len(ranks) > 1 and scales is None:
            raise ValueError(
                f"{a!r} has ranks {', '.join(map(str, ranks))}: give scales=, the alpha / r of "
                "each adapter"
            )
        if len({(len(left), right.shape[1]) for left, right in pairs}) > 1:
            raise ValueError(f"{a!r} and {b!r} make products of different shapes")
        factors = [share * scale / space.scale for share, scale in zip(shares, own, strict=True)]
        lefts = [factor * left for factor, (left, _) in zip(factors, pairs, strict=True)]
        found[a] = np.vstack([right for _, right in pairs]).astype(adapters[0][a].dtype)
        found[b] = np.hstack(lefts).astype(adapters[0][b].dtype)
    return found


def of_rank(adapter: Mapping[str, Array], space: LowRank, rank: int) -> dict[str, Array]:
    """Return the adapter of a given rank whose products are closest to those of another.

    The first singular vectors of each product, of which A and B get the roots of the singular
    values each. In float64, from QR decompositions of the factors: the cost is that of the factors,
    not of their product.

    Parameters
    ----------
    adapter : mapping of key to array
        What is in no pair of ``space`` is left out.
    space : LowRank
    rank : int
        At least 1, and at most what a product can have.

    Raises
    ------
    ValueError
        If a key is missing, or factors do not fit each other, or no product has so high a rank.
    """
    found: dict[str, Array] = {}
    for a, b in space.pairs.items():
        left, right = _pair(adapter, a, b, "the adapter")
        most = min(len(left), *right.shape)
        if not 1 <= rank <= most:
            raise ValueError(f"rank is {rank}, {b!r} times {a!r} has one of 1 to {most}")
        q_left, r_left = np.linalg.qr(left)
        q_right, r_right = np.linalg.qr(right.T)
        u, sizes, v = np.linalg.svd(r_left @ r_right.T)
        roots = np.sqrt(sizes[:rank])
        found[a] = (roots[:, None] * (v[:rank] @ q_right.T)).astype(adapter[a].dtype)
        found[b] = ((q_left @ u[:, :rank]) * roots).astype(adapter[b].dtype)
    return found


def _pair(adapter: Mapping[str, Array], a: str, b: str, who: str) -> tuple[Array, Array]:
    """Return B and A in float64."""
    missing = [key for key in (a, b) if key not in adapter]
    if missing:
        raise ValueError(f"{who} has no array {missing[0]!r}")
    left, right = np.asarray(adapter[b], np.float64), np.asarray(adapter[a], np.float64)
    if not left.ndim == right.ndim == 2 or left.shape[1] != len(right):
        raise ValueError(
            f"{who}: {b!r} of shape {left.shape} and {a!r} of shape {right.shape} make no product, "
            "expected (out, r) and (r, in)"
        )
    return left, right


def _numbers(name: str, values: Sequence[float], m: int) -> Sequence[float]:
    if len(values) != m:
        raise ValueError(f"{len(values)} {name} for {m} adapters, expected one each")
    return values
