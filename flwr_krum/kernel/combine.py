"""The second pass over the models: the weighted mean of those that a rule chose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.counters import lower_median
from flwr_krum.kernel.device import is_compiled, is_cuda
from flwr_krum.kernel.threads import MOST_THREADS, spread
from flwr_krum.kernel.updates import BLOCK, PIECE, ClientUpdates


def weighted_mean(updates: ClientUpdates, weights: Float64) -> tuple[Array, ...]:
    """Return ``sum_i w_i V_i / sum_i w_i``, layer by layer, in the layers' own dtypes.

    Only clients of non-zero weight are read; sums are in float64, in the clients' order. A single
    client's model is returned bit for bit, as a view of it; counters take the lower median over
    all clients. The arrays are read-only.

    Parameters
    ----------
    updates : ClientUpdates
    weights : (n,), not all zero
    """
    with stage("combine"):
        chosen = np.flatnonzero(weights)
        if chosen.size == 1:
            model = updates.models[chosen[0]]
            floats = [
                np.asarray(model[i], dtype=updates.dtypes[i]).view() for i in updates.float_layers
            ]
        else:
            # Relative to the largest, uniform weights are ones: a sum, divided once.
            relative = weights[chosen] / weights[chosen].max()
            floats, pieces = updates.empty_result()
            _fill_means(updates, chosen, relative, pieces)
        return with_counters(updates, floats)


def with_counters(updates: ClientUpdates, floats: Sequence[Array]) -> tuple[Array, ...]:
    """Return a result's float layers and, in their places, its counters; read-only."""
    computed = iter(floats)
    layers = tuple(
        next(computed)
        if dtype.kind == "f"
        else lower_median([model[i] for model in updates.models], dtype)
        for i, dtype in enumerate(updates.dtypes)
    )
    for layer in layers:
        layer.setflags(write=False)
    return layers


def _fill_means(
    updates: ClientUpdates, chosen: Indices, weights: Float64, outs: Sequence[Array]
) -> None:
    """Write the weighted mean of some clients to the pieces of a result."""
    flats = [updates.flat[i] for i in chosen]
    # NumPy's calls are so short here that threads would wait for each other.
    add, width, most = partial(_weighted_sum, flats), BLOCK, 1
    if is_cuda(updates.device):
        from flwr_krum.kernel import cuda_way

        add, width = partial(cuda_way.weighted_sum, flats, updates.device), PIECE
    elif is_compiled(updates.device, updates.n, updates.d) and updates.buffers is not None:
        from flwr_krum.kernel import numba_way

        add, most = partial(numba_way.weighted_sum, updates.buffers.of(chosen)), MOST_THREADS
    count = weights.sum()

    def fill(start: int) -> None:
        stop = min(updates.d, start + PIECE)
        with np.errstate(over="ignore", invalid="ignore"):  # each thread has its own
            for piece, first, last in updates.segments(start, stop):
                for a in range(first, last, width):
                    b = min(last, a + width)
                    mean = add(weights, piece, a, b) / count
                    if not np.isfinite(mean).all():  # the sum is too large for a float
                        mean = add(weights / count, piece, a, b)
                    outs[piece][a:b] = mean

    for _ in spread(fill, range(0, updates.d, PIECE), most):
        pass


def _weighted_sum(
    flats: Sequence[Sequence[Array]], weights: Float64, piece: int, first: int, last: int
) -> Float64:
    total = np.zeros(last - first)
    for flat, weight in zip(flats, weights, strict=True):
        part = flat[piece][first:last]
        np.add(total, part if weight == 1.0 else part.astype(np.float64) * weight, out=total)
    return total
