"""One round's client models, layer by layer, never flattened into one matrix.

Every rule reads the models through this module: once in column blocks, as offsets from the
global model (for distances), and once as a weighted mean (for the result). Float layers carry
the update; integer and boolean layers are counters (BatchNorm's batch count), which no distance
sees and which take the element-wise lower median.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]

BLOCK = 8192
"""Columns per block: n x 8192 float64 stays in cache and is wide enough for BLAS."""


@dataclass(frozen=True)
class ClientUpdates:
    """The models of n clients, each a tuple of layers, beside the global model they started from.

    Parameters
    ----------
    models : n tuples of L arrays
        ``models[i][l]`` is layer ``l`` of client ``i``; all clients share the layers' shapes.
    reference : L arrays, optional
        The global model. Distances are taken between offsets from it, so that a tiny update of
        large parameters keeps its digits.
    dtypes : L dtypes
        Dtype of each layer of the result: the global model's, if there is one.
    """

    models: tuple[tuple[Array, ...], ...]
    reference: tuple[Array, ...] | None
    dtypes: tuple[np.dtype[Any], ...]

    @classmethod
    def from_layers(
        cls,
        models: Sequence[Sequence[Array]],
        reference: Sequence[Array] | None = None,
        dtypes: Sequence[np.dtype[Any]] | None = None,
    ) -> ClientUpdates:
        """Check n models against each other and the reference, and hold them without a copy.

        Without ``dtypes`` the result takes those of the reference, else of the first model.

        Raises
        ------
        ValueError
            If there is no client, or a model differs from the first in number or shape of layers.
        TypeError
            If a layer is neither float (16, 32, 64 bits) nor integer nor boolean.
        """
        held = tuple(tuple(np.asarray(layer) for layer in model) for model in models)
        base = None if reference is None else tuple(np.asarray(layer) for layer in reference)
        if not held:
            raise ValueError("no client models: expected at least 1")
        pattern = held[0] if base is None else base
        for i, model in enumerate(held):
            _check_alike(model, pattern, f"client {i}")
        return cls(held, base, tuple(dtypes or (layer.dtype for layer in pattern)))

    @classmethod
    def from_matrix(cls, V: Array) -> ClientUpdates:
        """Hold the rows of an (n, d) array as n models of one layer; integers become float64."""
        rows = np.asarray(V)
        if rows.ndim != 2 or rows.shape[0] == 0:
            raise ValueError(
                f"expected an (n, d) array with n >= 1, got shape {rows.shape}"
                + ("; for n scalars pass V.reshape(-1, 1)" if rows.ndim == 1 else "")
            )
        if rows.dtype.kind in "iub":
            rows = rows.astype(np.float64)
        return cls.from_layers([[row] for row in rows])

    @property
    def n(self) -> int:
        """Number of clients."""
        return len(self.models)

    @cached_property
    def float_layers(self) -> tuple[int, ...]:
        """Indices of the layers that carry the update."""
        return tuple(i for i, dtype in enumerate(self.dtypes) if dtype.kind == "f")

    @cached_property
    def d(self) -> int:
        """Number of coordinates that enter a distance."""
        return sum(self.models[0][i].size for i in self.float_layers)

    @cached_property
    def flat(self) -> tuple[tuple[Array, ...], ...]:
        """The float layers of each client as one-dimensional views."""
        return tuple(tuple(model[i].ravel() for i in self.float_layers) for model in self.models)

    @cached_property
    def _flat_reference(self) -> tuple[Array, ...] | None:
        if self.reference is None:
            return None
        return tuple(self.reference[i].ravel() for i in self.float_layers)

    def subset(self, clients: Iterable[int]) -> ClientUpdates:
        """Return the updates of some clients, in the given order."""
        return replace(self, models=tuple(self.models[i] for i in clients))

    def without_reference(self) -> ClientUpdates:
        """Return the same models, whose offsets are then the models themselves."""
        return replace(self, reference=None)

    def offset_blocks(self, width: int = BLOCK) -> Iterator[Float64]:
        """Yield the offsets from the global model in (n, <= width) float64 column blocks.

        Short layers share a block. The buffer is reused: a block is valid until the next one.
        """
        buffer = np.empty((self.n, max(1, min(width, self.d))))
        filled = 0
        for layer in range(len(self.float_layers)):
            size = self.flat[0][layer].size
            start = 0
            while start < size:
                stop = min(size, start + buffer.shape[1] - filled)
                self._fill(buffer[:, filled : filled + stop - start], layer, start, stop)
                filled += stop - start
                start = stop
                if filled == buffer.shape[1]:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:, :filled]

    def _fill(self, target: Float64, layer: int, start: int, stop: int) -> None:
        # Copy first, then subtract: subtracting float32 arrays into float64 rounds to float32.
        for row, flat in zip(target, self.flat, strict=True):
            row[:] = flat[layer][start:stop]
        if self._flat_reference is not None:
            target -= self._flat_reference[layer][start:stop].astype(np.float64)

    def weighted_mean(self, weights: Float64) -> tuple[Array, ...]:
        """Return ``sum_i w_i V_i / sum_i w_i``, layer by layer, in the layers' own dtypes.

        Only clients of non-zero weight are read. A single one is returned bit for bit; counters
        take the lower median over all clients.
        """
        chosen = np.flatnonzero(weights)
        # Relative to the largest, uniform weights are ones: a sum, divided once.
        relative = weights[chosen] / weights[chosen].max()
        result = []
        for i, dtype in enumerate(self.dtypes):
            if dtype.kind != "f":
                result.append(_lower_median([model[i] for model in self.models], dtype))
            else:
                layers = [self.models[k][i] for k in chosen]
                result.append(_mean(layers, relative, dtype))
        return tuple(result)


def _check_alike(model: Sequence[Array], pattern: Sequence[Array], who: str) -> None:
    if len(model) != len(pattern):
        raise ValueError(f"{who} has {len(model)} layers, expected {len(pattern)}")
    for i, (layer, expected) in enumerate(zip(model, pattern, strict=True)):
        if layer.dtype.kind not in "fiub" or layer.dtype.itemsize > 8:
            raise TypeError(
                f"layer {i} of {who} has dtype {layer.dtype}; "
                "expected float16, float32, float64, an integer or bool"
            )
        if layer.shape != expected.shape:
            raise ValueError(
                f"layer {i} of {who} has shape {layer.shape}, expected {expected.shape}"
            )
        if (layer.dtype.kind == "f") != (expected.dtype.kind == "f"):
            raise ValueError(
                f"layer {i} of {who} has dtype {layer.dtype}, expected the kind of {expected.dtype}"
            )


def _mean(layers: Sequence[Array], relative: Float64, dtype: np.dtype[Any]) -> Array:
    if len(layers) == 1:
        return np.array(layers[0], dtype=dtype)
    flats = [layer.ravel() for layer in layers]
    out = np.empty(flats[0].size, dtype=dtype)
    for start in range(0, out.size, BLOCK):
        part = slice(start, start + BLOCK)
        with np.errstate(over="ignore"):
            mean = _weighted_sum([flat[part] for flat in flats], relative) / relative.sum()
        if not np.isfinite(mean).all():  # the sum is too large for a float, the mean may not be
            mean = _weighted_sum([flat[part] for flat in flats], relative / relative.sum())
        out[part] = mean
    return out.reshape(layers[0].shape)


def _weighted_sum(vectors: Sequence[Array], weights: Float64) -> Float64:
    total = np.zeros(vectors[0].size)
    for vector, weight in zip(vectors, weights, strict=True):
        total += vector.astype(np.float64) * weight
    return total


def _lower_median(layers: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    ordered = np.sort(np.stack([layer.astype(dtype) for layer in layers]), axis=0)
    return np.asarray(ordered[(len(layers) - 1) // 2])
