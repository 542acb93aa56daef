"""The step that the global model takes: scaled by the server's rate, and not beyond its limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import TypeAlias

import numpy as np

from flwr_krum.boundary.replies import on_one_line
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.pairwise import lengths
from flwr_krum.kernel.updates import BLOCK, ClientUpdates

LearningRate: TypeAlias = float | Callable[[int], float]
"""The server's rate: a number, or a function of the round."""

LARGEST_STEP = 10.0
"""Median update lengths beyond which a step of an unbounded rule is not taken."""


def moved(
    layers: Sequence[Array], reference: Sequence[Array] | None, rate: float
) -> Sequence[Array]:
    """Return ``x_t + rate (aggregate - x_t)``; counters take the aggregate's value.

    Raises
    ------
    ValueError
        If the rate is not 1 and there is no global model.
    """
    if rate == 1.0:
        return layers
    if reference is None:
        raise ValueError(
            f"a server learning rate of {rate} needs the global model: "
            "let the strategy configure the round, or use rate 1"
        )
    return [
        _step_layer(old, new, rate) if new.dtype.kind == "f" else new
        for old, new in zip(reference, layers, strict=True)
    ]


def rate_of(rate: LearningRate, server_round: int) -> float:
    """Return the server's rate in a round.

    Raises
    ------
    ValueError
        If the operator's function raises, or returns no rate.
    """
    if not callable(rate):
        return rate
    name = f"server_learning_rate({server_round})"
    try:
        value = rate(server_round)
    except Exception as error:
        reason = f"{type(error).__name__}: {on_one_line(error)}"
        raise ValueError(f"{name} raises {reason}") from error
    check_rate(value, name)
    return value


def check_rate(rate: object, name: str = "server_learning_rate") -> None:
    """Raise ValueError unless the rate is a finite number >= 0."""
    if isinstance(rate, bool) or not (isinstance(rate, Real) and 0.0 <= float(rate) < math.inf):
        raise ValueError(f"{name} must be a finite number >= 0, got {rate!r}")


def too_far(updates: ClientUpdates, layers: Sequence[Array], limit: float) -> str:
    """Say by how much a step is longer than the limit; empty if it is not, or cannot be known.

    Parameters
    ----------
    updates : ClientUpdates
        Of the accepted clients.
    layers : L arrays
        The aggregate.
    limit : float
        In median lengths of the updates.
    """
    if updates.reference is None or math.isinf(limit):
        return ""
    measured = replace(updates, server_rows={"step": tuple(layers)}).compared
    *clients, step = lengths(measured)
    usual = float(np.median(clients))
    if step <= limit * usual:
        return ""
    return (
        f"the step is {step / usual if usual else math.inf:.3g} times as long as the median "
        f"update, more than largest_step={limit:g}: it is not taken"
    )


def _step_layer(old: Array, new: Array, rate: float) -> Array:
    moved = np.empty(new.shape, new.dtype)  # in C order, so that its flat view is no copy
    flat, before, after = moved.reshape(-1), old.reshape(-1), new.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        x = before[part].astype(np.float64)
        flat[part] = x + rate * (after[part] - x)
    return moved
