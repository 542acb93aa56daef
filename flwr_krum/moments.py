"""What a server optimiser remembers from round to round, and how it outlives a process.

It belongs to one model, and is saved as the operator saves that: arrays by name, to be written in
one file with the model's. In a file of its own it could be of another round than the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Array, are_finite

OptimizerState: TypeAlias = Mapping[str, Array] | Literal["fresh"]
"""What a strategy's ``optimizer_state`` returned; "fresh" to go on without."""

PREFIX = "optimizer/"
"""How the names of a state's arrays begin."""

_KIND, _ROUND = f"{PREFIX}kind", f"{PREFIX}round"

_REMEDY = (
    "give server_optimizer_state= the strategy.optimizer_state that was saved with that round's "
    'model, or "fresh" to begin without'
)


class OptimizerStateError(ValueError):
    """A server optimiser's state is missing, or another one's; the message says what to do."""


@dataclass(frozen=True)
class Moments:
    """What an optimiser remembers.

    Attributes
    ----------
    kind : str
        The optimiser's class.
    server_round : int
        The last round in which it moved the model; 0 before the first.
    arrays : mapping of the moment's name to arrays by key
        Of the float arrays that it has moved, in their dtypes, but at least in float32: the square
        of a small step is 0 in float16.
    """

    kind: str = ""
    server_round: int = 0
    arrays: Mapping[str, Mapping[str, Array]] = field(default_factory=dict, repr=False)

    def are_finite(self) -> bool:
        """Say whether they hold neither NaN nor Inf."""
        return are_finite(array for by_key in self.arrays.values() for array in by_key.values())

    def check(self, formats: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        """Raise OptimizerStateError unless they are those of a model of these shapes and dtypes."""
        for name, by_key in self.arrays.items():
            for key, array in by_key.items():
                shape, dtype = formats.get(key, ((), None))
                wanted = "no such array" if dtype is None else f"{moment_dtype(dtype)} {shape}"
                if f"{array.dtype} {array.shape}" != wanted:
                    raise OptimizerStateError(
                        f"the moment {name} of array {key!r} is {array.dtype} {array.shape}, the "
                        f"model asks for {wanted}: {_REMEDY}"
                    )

    def to_arrays(self) -> dict[str, Array]:
        """Return them as arrays by name, which `from_arrays` reads."""
        named = {
            f"{PREFIX}{name}/{key}": array
            for name, by_key in self.arrays.items()
            for key, array in by_key.items()
        }
        return {_KIND: np.array(self.kind), _ROUND: np.array(self.server_round), **named}

    @classmethod
    def from_arrays(cls, state: Mapping[str, Array]) -> Self:
        """Read what `to_arrays` returned.

        Raises
        ------
        OptimizerStateError
            If it did not.
        """
        try:
            named = {path: np.asarray(state[path]) for path in state}
            kind, server_round = str(named.pop(_KIND).item()), int(named.pop(_ROUND).item())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise OptimizerStateError(f"not an optimizer's state: {what}; {_REMEDY}") from None
        arrays: dict[str, dict[str, Array]] = {}
        for path, array in named.items():
            name, _, key = path.removeprefix(PREFIX).partition("/")
            if not path.startswith(PREFIX) or array.dtype.kind != "f":
                raise OptimizerStateError(f"{path!r} is no moment of an optimizer: {_REMEDY}")
            arrays.setdefault(name, {})[key] = array
        return cls(kind, server_round, arrays)


def moment_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the moments of an array: its own, but at least float32."""
    return np.promote_types(dtype, np.float32)


def remembered(
    start: Moments, state: OptimizerState | None, rounds_done: int, last_step: int | None
) -> Moments:
    """Return what an optimiser remembers after so many rounds.

    Parameters
    ----------
    start : Moments
        Before the first round: none, under their names.
    state : mapping of name to array, or "fresh", optional
        None only where no round is done.
    rounds_done : int
    last_step : int, optional
        The last round in which an optimiser moved the model, 0 for none; None where no journal
        tells.

    Raises
    ------
    OptimizerStateError
        If the state is missing, or not that of this optimiser after these rounds.
    """
    if state is None and rounds_done > 0:
        raise OptimizerStateError(
            f"rounds_done is {rounds_done}, and what {start.kind} remembers of these rounds is "
            f"missing: {_REMEDY}"
        )
    if state is None or (isinstance(state, str) and state == "fresh"):
        return start
    if not isinstance(state, Mapping):
        raise OptimizerStateError(f"server_optimizer_state is {state!r}: {_REMEDY}")
    moments = Moments.from_arrays(state)
    if moments.kind != start.kind:
        raise OptimizerStateError(
            f"the state is that of {moments.kind}, the optimizer is {start.kind}: {_REMEDY}"
        )
    if moments.server_round > rounds_done or last_step not in (None, moments.server_round):
        last = "" if last_step is None else f", and round {last_step} was the last that it moved in"
        raise OptimizerStateError(
            f"the state is that of round {moments.server_round}, but rounds_done is "
            f"{rounds_done}{last}: {_REMEDY}"
        )
    names, moved = start.arrays.keys(), [by_key.keys() for by_key in moments.arrays.values()]
    is_whole = not moved or (moments.arrays.keys() == names and all(k == moved[0] for k in moved))
    if not (is_whole and moments.are_finite()):
        raise OptimizerStateError(f"the state is not whole, or not finite: {_REMEDY}")
    return moments
