"""One round's client models, in the layers that they came in; only small ones are joined.

Every rule reads the models through this module, in blocks of columns: once for distances (offsets
from the global model), and once for the result. Float layers carry the update; integer and boolean
layers are counters (BatchNorm's batch count), which no distance sees. Columns count through all
float layers, which lie in pieces: a piece for each layer, or a single one for all.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Array, Float64, Indices
from flwr_krum.kernel.device import check_device
from flwr_krum.kernel.known import KnownPairs
from flwr_krum.kernel.stored import Layer, StoredArray, address_of

BLOCK = 8192
"""Columns per block: n x 8192 float64 stays in cache and is wide enough for BLAS."""

PIECE = 16 * BLOCK
"""Columns per task: what one thread works on at a time, however many there are."""

SMALL = 2**19
"""Numbers in all updates up to which layers are joined: a copy takes less than calls for each."""

Floats = TypeVar("Floats", Float64, NDArray[np.float32])

Read: TypeAlias = Callable[[int, int, Float64], Float64]
"""Writes columns of all rows' offsets into a block; see `ClientUpdates.read_offsets`."""


@dataclass(frozen=True)
class Products:
    """Layers that a distance sees as products ``scale B A``.

    Attributes
    ----------
    pairs : (A, B) indices of float layers, of shapes (r, in) and (out, r)
    scale : float
    """

    pairs: tuple[tuple[int, int], ...]
    scale: float = 1.0


@dataclass(frozen=True)
class ClientUpdates:
    """The models of n clients, each a tuple of layers, beside the global model they started from.

    Parameters
    ----------
    models : n tuples of L arrays
        ``models[i][l]`` is layer ``l`` of client ``i``; all clients share the layers' shapes. It
        may lie in a file, see `kernel.stored`: then nothing of it is held but the columns at work.
    reference : L arrays, optional
        The global model. Distances are taken between offsets from it, so that a tiny update of
        large parameters keeps its digits.
    dtypes : L dtypes
        Dtype of each layer of the result: the global model's, if there is one.
    device : str
        Where the arithmetic happens, see `kernel.device`; the selection is the same anywhere.
    server_rows : mapping of name to L arrays
        Models that the server adds, such as its own step on data of its own: no client can touch
        them, and no rule selects one.
    measured : indices of float layers, optional
        Those that a distance sees, by default all.
    products : Products, optional
        Pairs of these that a distance sees as their products.
    known : KnownPairs, optional
        Distances of some of the models, which need not be worked out again.
    """

    models: tuple[tuple[Layer, ...], ...]
    reference: tuple[Array, ...] | None
    dtypes: tuple[np.dtype[Any], ...]
    device: str = "cpu"
    server_rows: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)
    measured: tuple[int, ...] | None = None
    products: Products | None = None
    known: KnownPairs | None = None

    @classmethod
    def from_layers(
        cls,
        models: Sequence[Sequence[Array]],
        reference: Sequence[Array] | None = None,
        dtypes: Sequence[np.dtype[Any]] | None = None,
        device: str = "cpu",
        server_rows: Mapping[str, Sequence[Array]] | None = None,
    ) -> ClientUpdates:
        """Check n models against each other and the reference, and hold them without a copy.

        They are read when they are first needed, some of them once for all: changing an array
        afterwards leaves it open what a rule sees.

        Without ``dtypes`` the result takes those of the reference, else of the first model.

        Raises
        ------
        ValueError
            If there is no client, or a model differs from the first in number or shape of layers;
            if there is no such device.
        TypeError
            If a layer is neither float (16, 32, 64 bits) nor integer nor boolean.
        """
        check_device(device)
        held = tuple(tuple(np.asarray(layer) for layer in model) for model in models)
        base = None if reference is None else tuple(np.asarray(layer) for layer in reference)
        if not held:
            raise ValueError("no client models: expected at least 1")
        pattern = held[0] if base is None else base
        checked: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        for i, model in enumerate(held):
            if i == 0 or _kinds(model) != checked:
                _check_alike(model, pattern, f"client {i}")
                checked = _kinds(model)
        kinds = tuple(dtypes or (layer.dtype for layer in pattern))
        added = {}
        for name, row in (server_rows or {}).items():
            layers = [np.asarray(layer) for layer in row]
            _check_alike(layers, pattern, f"server row {name!r}")
            added[name] = tuple(
                layer.astype(dtype, copy=False) for layer, dtype in zip(layers, kinds, strict=True)
            )
        return cls(held, base, kinds, device, added)

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

    @property
    def rows(self) -> int:
        """Number of clients and of server rows, which come after them."""
        return len(self.models) + len(self.server_rows)

    @cached_property
    def float_layers(self) -> tuple[int, ...]:
        """Indices of the layers that carry the update."""
        return tuple(i for i, dtype in enumerate(self.dtypes) if dtype.kind == "f")

    @cached_property
    def compared(self) -> ClientUpdates:
        """The same updates in nothing but the layers that a distance sees."""
        if self.measured is None:
            return self
        layers = self.measured
        products = self.products
        if products is not None:
            pairs = ((layers.index(a), layers.index(b)) for a, b in products.pairs)
            products = replace(products, pairs=tuple(pairs))
        return replace(self._only(layers), products=products)

    @cached_property
    def plain(self) -> ClientUpdates:
        """The same updates in nothing but the float layers that are in no pair."""
        paired = {i for pair in self.products.pairs for i in pair} if self.products else set()
        return self._only([i for i in self.float_layers if i not in paired])

    def _only(self, layers: Sequence[int]) -> ClientUpdates:
        def seen(model: Sequence[_L]) -> tuple[_L, ...]:
            return tuple(model[i] for i in layers)

        return replace(
            self,
            models=tuple(map(seen, self.models)),
            reference=None if self.reference is None else seen(self.reference),
            dtypes=tuple(self.dtypes[i] for i in layers),
            server_rows={name: seen(model) for name, model in self.server_rows.items()},
            measured=None,
            products=None,
        )

    @cached_property
    def d(self) -> int:
        """Number of coordinates in float layers."""
        return sum(self.models[0][i].size for i in self.float_layers)

    @cached_property
    def is_single(self) -> bool:
        """Whether float32 holds every number of all that can be added up."""
        return all(layer.dtype.itemsize <= 4 for layers in self._floats for layer in layers)

    @cached_property
    def is_small(self) -> bool:
        """Whether calls for each layer would take longer than a copy of all of them."""
        return self.n * self.d <= SMALL

    @cached_property
    def piece_dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Dtype of each piece of the result."""
        dtypes = tuple(self.dtypes[i] for i in self.float_layers)
        return dtypes[:1] if self.is_small and len(set(dtypes)) == 1 else dtypes

    @cached_property
    def flat_rows(self) -> tuple[tuple[Layer, ...], ...]:
        """The pieces, one-dimensional, of all that can be added up.

        That is clients, server rows, the global model last.
        """
        if self._joined is not None:
            return tuple((row,) for row in self._joined)
        if len(self.piece_dtypes) < len(self.float_layers):
            return tuple((_concatenated(layers),) for layers in self._floats)
        return tuple(tuple(layer.ravel() for layer in layers) for layers in self._floats)

    @cached_property
    def flat(self) -> tuple[tuple[Layer, ...], ...]:
        """The pieces of each client, one-dimensional."""
        return self.flat_rows[: self.n]

    @cached_property
    def flat_reference(self) -> tuple[Layer, ...] | None:
        """The pieces of the global model, one-dimensional."""
        return None if self.reference is None else self.flat_rows[-1]

    @property
    def _floats(self) -> list[list[Layer]]:
        """The float layers of all that can be added up."""
        last = () if self.reference is None else (self.reference,)
        models = (*self.models, *self.server_rows.values(), *last)
        return [[model[i] for i in self.float_layers] for model in models]

    @cached_property
    def _joined(self) -> Array | None:
        """All of ``flat_rows`` in one matrix, where small layers of one dtype are joined."""
        if len(self.piece_dtypes) == len(self.float_layers):
            return None
        rows, dtype = self._floats, self.piece_dtypes[0]
        if any(layer.dtype != dtype for layers in rows for layer in layers):
            return None
        joined = np.empty((len(rows), self.d), dtype)
        for row, layers in zip(joined, rows, strict=True):
            _concatenated(layers, row)
        return joined

    def empty_result(self) -> tuple[list[Array], list[Array]]:
        """Return empty float layers for a result, and the same memory as empty pieces."""
        shapes = [self.models[0][i].shape for i in self.float_layers]
        pieces = [
            np.empty(piece.size, dtype)
            for piece, dtype in zip(self.flat[0], self.piece_dtypes, strict=True)
        ]
        if len(pieces) == len(shapes):
            return [p.reshape(shape) for p, shape in zip(pieces, shapes, strict=True)], pieces
        ends = list(accumulate(map(math.prod, shapes)))
        parts = (pieces[0][a:b] for a, b in zip([0, *ends], ends, strict=False))
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)], pieces

    @cached_property
    def buffers(self) -> Buffers | None:
        """Where the pieces lie in memory; None if compiled code could not read them."""
        flat, joined = self.flat_rows, self._joined
        if not all(dtype.isnative and dtype.itemsize >= 4 for dtype in self.piece_dtypes):
            return None
        if joined is not None:
            begins = joined.strides[0] * np.arange(len(joined), dtype=np.uintp)
            table = (joined.ctypes.data + begins)[None]
        elif _are_readable(flat, self.piece_dtypes):
            addresses = [[address_of(piece) for piece in model] for model in flat]
            table = np.ascontiguousarray(np.array(addresses, dtype=np.uintp).T)
        else:
            return None
        # Without a global model any address does for it: what is worked out from it is not used.
        reference = table[:, 0] if self.flat_reference is None else table[:, -1]
        order, stored = np.arange(self.n), not table.all()
        return Buffers(table[:, : self.n], order, reference, table, self.piece_dtypes, stored, flat)

    def are_equal(self, i: int, j: int) -> bool:
        """Say whether two of ``flat_rows`` hold the very same values."""
        return all(
            np.array_equal(a[start : start + PIECE], b[start : start + PIECE])
            for a, b in zip(self.flat_rows[i], self.flat_rows[j], strict=True)
            for start in range(0, a.size, PIECE)
        )

    def subset(self, clients: Iterable[int]) -> ClientUpdates:
        """Return the updates of some clients, in the given order."""
        return replace(self, models=tuple(self.models[i] for i in clients))

    def clients_alone(self) -> ClientUpdates:
        """Return the same updates without the server's rows."""
        return replace(self, server_rows={}) if self.server_rows else self

    def without_reference(self) -> ClientUpdates:
        """Return the same models, whose offsets are then the models themselves."""
        return replace(self, reference=None)

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (piece, first, last) of the pieces that columns start to stop lie in."""
        piece = bisect_right(self._ends, start)
        while start < stop:
            begin = self._ends[piece - 1] if piece else 0
            last = min(stop, self._ends[piece])
            if start < last:
                yield piece, start - begin, last - begin
            start = last
            piece += 1

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(piece.size for piece in self.flat[0]))

    def read_offsets(self, start: int, stop: int, target: Floats) -> Floats:
        """Write columns start to stop of all rows' offsets into the first columns of ``target``.

        Returns
        -------
        (rows, stop - start) view of ``target``
            Of float64, or of float32 where ``is_single``: each offset is then rounded once.
        """
        # Copy first, then subtract: subtracting float32 arrays into float64 rounds to float32.
        offsets: Floats = target[: self.rows, : stop - start]
        base = np.empty(stop - start, target.dtype)
        for row, layers in zip((*offsets, base), self._between(start, stop), strict=False):
            np.concatenate(layers, axis=None, out=row, casting="same_kind")
        if self.reference is not None:
            offsets -= base
        return offsets

    def _between(self, start: int, stop: int) -> Iterator[list[Array]]:
        """Yield what lies in columns start to stop of each of ``flat_rows``, piece by piece."""
        if start == 0 and stop == self.d:  # no piece is cut: not even joined ones are needed
            yield from ([np.asarray(layer) for layer in layers] for layers in self._floats)
            return
        segments = list(self.segments(start, stop))
        for flat in self.flat_rows:
            yield [flat[piece][first:last] for piece, first, last in segments]

    def read_columns(self, columns: Indices) -> Float64:
        """Return some columns of the clients' offsets (n, b), however they lie in the pieces."""
        pieces = np.searchsorted(self._ends, columns, side="right")
        begins = np.array([0, *self._ends])
        offsets = np.empty((self.n, columns.size))
        for piece in np.unique(pieces).tolist():
            here = pieces == piece
            places = columns[here] - begins[piece]
            for row, flat in zip(offsets, self.flat, strict=True):
                row[here] = flat[piece][places]
            if self.flat_reference is not None:
                offsets[:, here] -= self.flat_reference[piece][places]
        return offsets

    def offset_blocks(self, width: int = BLOCK) -> Iterator[Float64]:
        """Yield the offsets from the global model in (rows, <= width) float64 column blocks.

        Short layers share a block. The buffer is reused: a block is valid until the next one.
        """
        buffer = np.empty((self.rows, max(1, min(width, self.d))))
        for start in range(0, self.d, width):
            yield self.read_offsets(start, min(self.d, start + width), buffer)


@dataclass(frozen=True)
class Buffers:
    """Addresses of float32 and float64 pieces in native order, for compiled kernels.

    Attributes
    ----------
    clients : (P, n) uintp
    order : (n,)
        Which of ``rows`` the clients are.
    reference : (P,) uintp
    rows : (P, r) uintp
        As `ClientUpdates.flat_rows`: clients, server rows, the global model last.
    dtypes : P dtypes, the same for all clients
    stored : bool
        Whether some pieces lie in files, where they have no address.
    pieces : the arrays at these addresses, which must outlive them
    """

    clients: NDArray[np.uintp]
    order: Indices
    reference: NDArray[np.uintp]
    rows: NDArray[np.uintp]
    dtypes: tuple[np.dtype[Any], ...]
    stored: bool
    pieces: tuple[tuple[Layer, ...], ...] = field(repr=False)

    def of(self, rows: Indices) -> Buffers:
        """Return the buffers of some rows in the place of the clients, in the given order."""
        return replace(self, clients=np.ascontiguousarray(self.rows[:, rows]), order=rows)

    def at(self, piece: int, first: int, last: int) -> Addresses:
        """Return the clients' addresses of a piece, good for its columns first to last.

        What lies in a file is read: its address is the one at which the piece would have to begin
        for these columns to lie where they do.
        """
        clients = self.clients[piece]
        if not self.stored:
            return Addresses(clients, {})
        clients, begin = clients.copy(), first * self.dtypes[piece].itemsize
        read: dict[int, Array] = {}
        for client, row in enumerate(self.order.tolist()):
            layer = self.pieces[row][piece]
            if isinstance(layer, StoredArray):
                if row not in read:
                    read[row] = layer[first:last]
                clients[client] = (read[row].ctypes.data - begin) % 2**64
        return Addresses(clients, read)


class Addresses(NamedTuple):
    """Where columns of the clients lie.

    Attributes
    ----------
    clients : (n,) uintp
    read : arrays by row
        What was read from files, and must outlive the addresses.
    """

    clients: NDArray[np.uintp]
    read: Mapping[int, Array]


_L = TypeVar("_L", Array, Layer)


def _concatenated(layers: Sequence[Layer], out: Array | None = None) -> Array:
    """Return layers, of which those in files are read, as one array in a row."""
    return np.concatenate([np.asarray(layer) for layer in layers], axis=None, out=out)


def _are_readable(flat: Sequence[Sequence[Layer]], dtypes: Sequence[np.dtype[Any]]) -> bool:
    return all(
        piece.dtype == dtype
        and (piece.is_aligned if isinstance(piece, StoredArray) else piece.flags.aligned)
        for pieces in flat
        for piece, dtype in zip(pieces, dtypes, strict=True)
    )


def _kinds(model: Sequence[Array]) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    return [(layer.shape, layer.dtype) for layer in model]


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
