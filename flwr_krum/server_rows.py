"""What the server adds to a round beside the clients' models: its own model, and its last step.

No client can touch these rows, and no rule selects one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flwr_krum.boundary.root import Root, own_model
from flwr_krum.boundary.template import Model, Template
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.rule import ROOT, STEP, Rule


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

    def begin(self, template: Template) -> None:
        """Make the server's own model for a round.

        Raises
        ------
        RootError
            If what ``root`` returns would be refused as a client's reply.
        """
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

    def remember(
        self, updates: ClientUpdates, keys: Sequence[str], layers: Sequence[Array]
    ) -> None:
        """Keep a step that is taken, from the global model to the aggregate."""
        if STEP in self.rule.server_rows and updates.reference is not None:
            self._step = {
                key: _within(np.subtract, new, old)
                for key, new, old in zip(keys, layers, updates.reference, strict=True)
                if new.dtype.kind == "f"
            }

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
