"""The second pass over the models: what a rule decided becomes the layers of one model.

A decision is a small matrix ``mix`` and, where it has several rows, a window. Row r of it stands
for the model ``y_r = w + sum_i mix[r, i] (V_i - w)``: what a row lacks of the sum 1 lies on the
global model w. One row is the result; several are sorted, per coordinate, and a window of the
sorted values is averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flwr_krum.kernel import ways
from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.counters import lower_median
from flwr_krum.kernel.sorting import WeightedWindow, Window
from flwr_krum.kernel.threads import one_blas_thread, spread
from flwr_krum.kernel.updates import PIECE, ClientUpdates

NOTHING = 2.0**-48
"""What a row of weights lacks of the sum 1 through rounding alone, for hundreds of clients."""


def combine(
    updates: ClientUpdates, mix: Float64, window: Window | WeightedWindow | None = None
) -> tuple[Array, ...]:
    """Return the mixed model, layer by layer, in the layers' own dtypes.

    Only rows of non-zero weight are read; sums are in float64, in the clients' order. A single
    row of weight 1 is returned bit for bit, as a view of it; counters take the lower median over
    all clients. The arrays are read-only.

    Parameters
    ----------
    updates : ClientUpdates
        n clients and s rows of the server.
    mix : (k, n) or (k, n + s)
        Without a global model the rest of a row lies on zero.
    window : Window or WeightedWindow, optional
        Which of the k sorted values are averaged; only for one row it may be left out.

    Raises
    ------
    ValueError
        If several rows have no window, or one is to sort what is seen as products of layers.
    """
    if window is None and len(mix) != 1:
        raise ValueError(f"{len(mix)} rows need a window, expected 1 row without one")
    if window is not None and updates.products:
        raise ValueError(
            "a rule that sorts coordinates knows no products of layers: their own coordinates "
            "change with the basis; take a rule that weighs clients"
        )
    with stage("combine"):
        if window is None:
            return with_counters(updates, _weighted_mean(updates, _with_rest(mix[0], updates)))
        weights = np.stack([_with_rest(row, updates) for row in mix])
        return with_counters(updates, _window_means(updates, weights, window))


def _with_rest(row: Float64, updates: ClientUpdates) -> Float64:
    """Return a weight for each of `ClientUpdates.flat_rows`, and for the global model always."""
    rest = 1.0 - math.fsum(row)
    weights = np.zeros(updates.rows + 1)
    weights[: len(row)] = row
    weights[-1] = rest if abs(rest) > NOTHING else 0.0
    return weights


def _weighted_mean(updates: ClientUpdates, weights: Float64) -> list[Array]:
    chosen = np.flatnonzero(weights)
    if updates.reference is None:  # what lies on zero adds nothing
        chosen = chosen[chosen < updates.rows]
    if chosen.size == 1 and weights[chosen[0]] >= 1.0 - NOTHING:
        return _view_of(updates, int(chosen[0]))
    floats, pieces = updates.empty_result()
    if not chosen.size:
        for piece in pieces:
            piece[:] = 0
        return floats
    # Relative to the largest, uniform weights are ones: a sum, divided once.
    relative = weights / np.abs(weights).max()
    _fill_means(updates, chosen, relative[chosen], relative.sum(), pieces)
    return floats


def _view_of(updates: ClientUpdates, row: int) -> list[Array]:
    """Return views of the float layers of a client, a server row or the global model."""
    models = (*updates.models, *updates.server_rows.values(), updates.reference)
    model = models[row]
    assert model is not None  # without a global model no row is one
    return [np.asarray(model[i], dtype=updates.dtypes[i]).view() for i in updates.float_layers]


def _fill_means(
    updates: ClientUpdates, chosen: Indices, weights: Float64, total: float, outs: Sequence[Array]
) -> None:
    """Write the weighted sum of some rows, divided by ``total``, to the pieces of a result."""
    add, width, most = ways.adder(updates, chosen)

    def fill(start: int) -> None:
        stop = min(updates.d, start + PIECE)
        with np.errstate(over="ignore", invalid="ignore"):  # each thread has its own
            for piece, first, last in updates.segments(start, stop):
                for a in range(first, last, width):
                    b = min(last, a + width)
                    mean = add(weights, piece, a, b) / total
                    if not np.isfinite(mean).all():  # the sum is too large for a float
                        mean = add(weights / total, piece, a, b)
                    outs[piece][a:b] = mean

    for _ in spread(fill, range(0, updates.d, PIECE), most):
        pass


def _window_means(
    updates: ClientUpdates, weights: Float64, window: Window | WeightedWindow
) -> list[Array]:
    """Return, per coordinate, the mean of a window of the sorted mixtures."""
    floats, pieces = updates.empty_result()
    rows = _rows_alone(weights)
    if rows is not None:
        fill, most = ways.window_of_rows(updates, rows, window)
    else:
        read = updates.rows + (updates.reference is not None)
        fill, most = ways.window_of_mixtures(updates, weights[:, :read], window)

    def work(start: int) -> None:
        for piece, first, last in updates.segments(start, min(updates.d, start + PIECE)):
            fill(piece, first, last, pieces[piece][first:last])

    with one_blas_thread():
        for _ in spread(work, range(0, updates.d, PIECE), most):
            pass
    return floats


def _rows_alone(weights: Float64) -> Indices | None:
    """Return which row each mixture is, if all of them are one row as it came."""
    rows: Indices = weights.argmax(axis=1)
    one = np.count_nonzero(weights, axis=1) == 1
    whole = weights[np.arange(len(rows)), rows] == 1.0
    return rows if (one & whole).all() and rows.max() < weights.shape[1] - 1 else None


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
