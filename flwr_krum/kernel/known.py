"""Squared distances that were worked out before all models of a round were there.

A pair's distance does not depend on who else is in the round, so that it can be had as soon as both
models came. A model is known by where it lies in memory, which it must not leave until the round
is over: who has these distances holds the models as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.stored import Layer, address_of

TOGETHER = 4
"""Models that the kernels take together: fewer take as long."""


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """The squared distances of k models from each other and from the global model.

    Attributes
    ----------
    models : k tuples of P arrays
        In memory, as pieces, see `ClientUpdates.flat`.
    reference : P arrays
        The global model.
    squared : (k, k)
        As the compiled kernels add them up; 0 on the diagonal.
    norms : (k,)
        Squared distances from the global model.
    """

    models: tuple[tuple[Layer, ...], ...]
    reference: tuple[Layer, ...]
    squared: Float64
    norms: Float64

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {_place(_addresses(model)): i for i, model in enumerate(self.models)}

    def among(self, addresses: NDArray[np.uintp], reference: NDArray[np.uintp]) -> Indices:
        """Return which of the known models lie at some addresses; -1 for one that is not known.

        Parameters
        ----------
        addresses : (P, n)
        reference : (P,)
            Of the global model; where it is another, nothing is known.
        """
        if _place(reference) != _place(_addresses(self.reference)):
            return np.full(addresses.shape[1], -1)
        return np.array([self._places.get(_place(one), -1) for one in addresses.T], dtype=np.intp)

    def is_finite(self, model: Sequence[Layer]) -> bool:
        """Say whether a model is known, and known to hold neither NaN nor Inf."""
        place = self._places.get(_place(_addresses(model)))
        return place is not None and bool(np.isfinite(self.norms[place]))


def _addresses(model: Sequence[Layer]) -> NDArray[np.uintp]:
    return np.array([address_of(layer) for layer in model], dtype=np.uintp)


def _place(addresses: NDArray[np.uintp]) -> bytes:
    return addresses.tobytes()
