"""What the server adds to a round beside the clients' models: its own model, and its last step.

No client can touch these rows, and no rule selects one. The last step outlives a process as the
operator saves it: as arrays by name, in one file with the model that it led to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flwr_krum.boundary.root import Root, own_model
from flwr_krum.boundary.template import Model, Template
from flwr_krum.kernel.arrays import Array, are_finite
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.rule import ROOT, STEP, Rule

STEP_PREFIX = "last-step/"
"""How the names of a saved step's arrays begin."""

LOST = "the last step was not given back after the restart: the rule measures from the global model"
"""What a report says of a rule that is to measure from the last step, and has none."""

_ROUND = f"{STEP_PREFIX}round"

_REMEDY = "give server_last_step= the strategy.last_step that was saved with that round's model"


class LastStepError(ValueError):
    """A last step is not that of the rounds that are done; the message says what to do."""


@dataclass
class ServerRows:
    """The rows that a rule asks the server for, from round to round.

    Parameters
    ----------
    rule : Rule
    root : callable, list of arrays -> list of arrays, optional
        Makes the server's own model of the global one.

    Raises
    ------
    TypeError, ValueError
        If root is no function; if the rule needs it and it is not there, or it is there and the
        rule has no use for it; if the rule asks for something else.
    """

    rule: Rule
    root: Root | None = None
    _own: Model | None = field(default=None, init=False, repr=False)
    _step: Model = field(default_factory=dict, init=False, repr=False)
    _step_round: int = field(default=0, init=False)
    _is_lost: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.root is not None and not callable(self.root):
            raise TypeError(f"root must be a function of the global model, got {self.root!r}")
        asked = self.rule.server_rows
        unknown = [name for name in asked if name not in (ROOT, STEP)]
        if unknown:
            raise ValueError(f"{self.rule} asks the server for {unknown}, it has {[ROOT, STEP]}")
        if ROOT in asked and self.root is None:
            raise ValueError(
                f"{self.rule} needs a model of the server's own: give root=, a function that takes "
                "the global model's arrays and returns those of the model that the server makes of "
                "it on clean data"
            )
        if ROOT not in asked and self.root is not None:
            raise ValueError(
                f"root is given, but {self.rule} has no use for a model of the server's own: leave "
                "it out, or take a rule that has, such as FLTrust()"
            )

    def go_on(
        self, state: Mapping[str, Array] | None, rounds_done: int, moved_in: int | None
    ) -> None:
        """Take up the last step of the rounds that are done.

        Parameters
        ----------
        state : mapping of name to array, optional
            What ``last_step`` was after them. Without it the rule begins as if there had been
            none, and ``note`` says so.
        rounds_done : int
        moved_in : int, optional
            The last of them in which the model moved, 0 for none; None where no journal tells.

        Raises
        ------
        LastStepError
            If the state is not that of these rounds, or the rule has no use for one.
        """
        if STEP not in self.rule.server_rows:
            if state:
                raise LastStepError(
                    f"server_last_step is given, but {self.rule} has no use for it: leave it out"
                )
            return
        if not state:
            self._is_lost = rounds_done > 0 and moved_in != 0
            return
        arrays = {name: np.asarray(state[name]) for name in state}
        server_round = arrays.pop(_ROUND, np.array(-1))
        names_are_ours = all(name.startswith(STEP_PREFIX) for name in arrays)
        is_whole = server_round.ndim == 0 and server_round.dtype.kind in "iu" and server_round >= 0
        are_floats = all(array.dtype.kind == "f" for array in arrays.values())
        if not (names_are_ours and is_whole and are_floats and are_finite(arrays.values())):
            raise LastStepError(f"server_last_step is no last step: {_REMEDY}")
        self._step_round = int(server_round)
        if self._step_round > rounds_done or moved_in not in (None, self._step_round):
            last = "" if moved_in is None else f", and the model moved last in round {moved_in}"
            raise LastStepError(
                f"the last step is that of round {self._step_round}, but rounds_done is "
                f"{rounds_done}{last}: {_REMEDY}"
            )
        self._step = {name.removeprefix(STEP_PREFIX): array for name, array in arrays.items()}

    @property
    def last_step(self) -> dict[str, Array]:
        """The last step as arrays by name, which `go_on` reads; empty where no rule asks for it."""
        if STEP not in self.rule.server_rows or self._is_lost:
            return {}
        named = {f"{STEP_PREFIX}{key}": array for key, array in self._step.items()}
        return {_ROUND: np.array(self._step_round), **named}

    @property
    def note(self) -> str:
        """What a report must say of a step that is missing; empty where none is."""
        return LOST if self._is_lost else ""

    def begin(self, template: Template) -> None:
        """Make the server's own model for a round.

        Raises
        ------
        RootError
            If what ``root`` returns would be refused as a client's reply.
        LastStepError
            If the last step is not one of a model of these shapes and dtypes.
        """
        for key, array in self._step.items():
            shape, dtype = template.formats.get(key, ((), None))
            if (array.shape, array.dtype) != (shape, dtype):
                raise LastStepError(
                    f"the last step of array {key!r} is {array.dtype} {array.shape}, the model's "
                    f"is {'none' if dtype is None else f'{dtype} {shape}'}: {_REMEDY}"
                )
        if self.root is not None:
            self._own = own_model(self.root, template)

    def beside(
        self, updates: ClientUpdates, keys: Sequence[str], template: Template | None
    ) -> ClientUpdates:
        """Return the updates with the rows that the rule asks for.

        Parameters
        ----------
        updates : ClientUpdates
            Whose layers are the arrays under ``keys``.
        template : Template, optional
            Of the global model that the round began with.

        Raises
        ------
        ValueError
            If no round began.
        """
        if not self.rule.server_rows:
            return updates
        if template is None or template.reference is None:
            raise ValueError(
                f"{self.rule} needs the global model: let the strategy configure the round"
            )
        rows: dict[str, tuple[Array, ...]] = {}
        for name in self.rule.server_rows:
            model = self._own if name == ROOT else self._moved_again(template.reference)
            rows[name] = tuple((model or {})[key] for key in keys)
        return replace(updates, server_rows=rows)

    def step_to(
        self, updates: ClientUpdates, keys: Sequence[str], layers: Sequence[Array]
    ) -> Model | None:
        """Return the step from the global model to an aggregate, if the rule asks for it."""
        if STEP not in self.rule.server_rows or updates.reference is None:
            return None
        return {
            key: _within(np.subtract, new, old)
            for key, new, old in zip(keys, layers, updates.reference, strict=True)
            if new.dtype.kind == "f"
        }

    def remember(self, step: Model | None, server_round: int) -> None:
        """Keep a step that was taken in a round."""
        if step is not None:
            self._step, self._step_round, self._is_lost = step, server_round, False

    def _moved_again(self, reference: Model) -> Model:
        """Return the global model moved by the last step again; as it is, where there was none."""
        return {
            key: _within(np.add, array, self._step[key]) if key in self._step else array
            for key, array in reference.items()
        }


def _within(operation: np.ufunc, a: Array, b: Array) -> Array:
    """Return a sum or a difference, as far as the dtype reaches."""
    with np.errstate(over="ignore"):
        result = operation(a, b)
    limit = np.finfo(result.dtype).max
    return np.asarray(np.clip(result, -limit, limit))
