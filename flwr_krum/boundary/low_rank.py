"""Which arrays are the factors of low-rank adapters, as the operator names them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np

from flwr_krum.boundary.replies import few


@dataclass(frozen=True)
class LowRank:
    """The space in which pairs of arrays count as their products ``scale B A``, such as LoRA's.

    ``(B R, R^-1 A)`` is the same model as ``(B, A)`` for any invertible R: between products, the
    basis that a client happens to use does not decide. Other arrays are measured as they are.

    Parameters
    ----------
    pairs : mapping of A's key to B's key
        Arrays of shapes (r, in) and (out, r). ``aggregate_fit`` has no names: its keys are
        positions.
    scale : float (default: 1.0)
        ``alpha / r``, the same for all clients: beside other arrays it says how much the products
        weigh.

    Raises
    ------
    TypeError, ValueError
        If pairs is no mapping, is empty or names a key twice; if scale is no number > 0.
    """

    pairs: Mapping[str, str]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.pairs, Mapping):
            raise TypeError(f"pairs must be a mapping of A's key to B's key, got {self.pairs!r}")
        named = {str(a): str(b) for a, b in self.pairs.items()}
        keys = [*named, *named.values()]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if not named:
            raise ValueError("pairs is empty, expected at least one pair of keys")
        if twice:
            raise ValueError(f"pairs holds {few(twice)} twice, expected every key in one pair")
        is_number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if not (is_number and 0.0 < self.scale < math.inf):
            raise ValueError(f"scale must be a finite number > 0, got {self.scale!r}")
        object.__setattr__(self, "pairs", named)

    def __str__(self) -> str:
        return f"products of {few(list(chain.from_iterable(self.pairs.items())))}"

    def among(
        self,
        formats: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
        measured: Collection[str],
    ) -> Self:
        """Return the space of the pairs that are measured.

        Parameters
        ----------
        formats : mapping of key to (shape, dtype)
            Of the global model's arrays.
        measured : keys
            Those that a distance sees.

        Raises
        ------
        ValueError
            If a key is not one of the model, two arrays do not multiply, only one of a pair is
            measured, or none is.
        """
        unknown = sorted({*self.pairs, *self.pairs.values()} - formats.keys())
        if unknown:
            raise ValueError(f"pairs holds {few(unknown)}, expected some of {few(list(formats))}")
        for a, b in self.pairs.items():
            _check_factors(a, b, *formats[a], *formats[b])
            alone = [key for key in (a, b) if key in measured]
            if len(alone) == 1:
                raise ValueError(
                    f"of the pair {a!r}, {b!r} only {alone[0]!r} travels and is measured: name "
                    "both in shared_keys and distance_keys, or leave the pair out of pairs (where "
                    "A is frozen for all, B alone leaves no basis to choose)"
                )
        pairs = {a: b for a, b in self.pairs.items() if a in measured}
        if not pairs:
            raise ValueError(f"none of {few(list(self.pairs))} travels and is measured")
        return replace(self, pairs=pairs)

    def splits(self, keys: Collection[str]) -> bool:
        """Say whether some keys have one array of a pair and lack the other."""
        return any((a in keys) != (b in keys) for a, b in self.pairs.items())

    def indices(self, keys: Collection[str]) -> Iterator[tuple[int, int]]:
        """Yield where among some keys both arrays of a pair stand."""
        place = {key: i for i, key in enumerate(keys)}
        for a, b in self.pairs.items():
            if a in place:
                yield place[a], place[b]


def _check_factors(
    a: str,
    b: str,
    a_shape: tuple[int, ...],
    a_dtype: np.dtype[Any],
    b_shape: tuple[int, ...],
    b_dtype: np.dtype[Any],
) -> None:
    for key, dtype in ((a, a_dtype), (b, b_dtype)):
        if dtype.kind != "f":
            raise ValueError(f"pairs holds {key!r} of dtype {dtype}, expected an array of floats")
    fits = len(a_shape) == len(b_shape) == 2 and a_shape[0] == b_shape[1]
    if not fits or 0 in (*a_shape, *b_shape):
        raise ValueError(
            f"pairs holds {a!r} of shape {a_shape} and {b!r} of shape {b_shape}, expected A of "
            "shape (r, in) and B of shape (out, r)"
        )
