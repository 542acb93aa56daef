"""The server's own model: what the operator's function returns, held against the global model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from flwr_krum.boundary.bfloat16 import widened
from flwr_krum.boundary.intake import RefusedError, checked
from flwr_krum.boundary.replies import on_one_line
from flwr_krum.boundary.template import Model, Template
from flwr_krum.kernel.arrays import Array

Root: TypeAlias = Callable[[list[Array]], Sequence[Array]]
"""Maps the global model's arrays to those of the model that the server makes of it by itself."""


class RootError(ValueError):
    """What ``root`` returned is no model like the global one; the text says what is wrong."""


def own_model(root: Root, template: Template) -> Model:
    """Return the server's own model by key, as far as it travels from clients.

    The function gets a copy of the global model, bfloat16 as float32, and what it returns is
    copied: it may go on with both.

    Raises
    ------
    RootError
        If it returns something that would be refused as a client's reply.
    """
    model = template.model or {}
    returned = root([widened(array).copy() for array in model.values()])
    try:
        own = [widened(np.array(array)) for array in returned]
    except (TypeError, ValueError) as error:
        raise RootError(f"root returns no list of arrays: {on_one_line(error)}") from error
    if len(own) != len(model):
        raise RootError(f"root returns {len(own)} arrays, the global model has {len(model)}")
    arrays = dict(zip(model, own, strict=True))
    try:
        taken = checked({key: arrays[key] for key in template.travelling}, template)
    except RefusedError as reason:
        raise RootError(f"root returns a model that does not fit: {reason}") from reason
    return {key: np.asarray(array) for key, array in taken.items()}
