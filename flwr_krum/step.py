"""The step that the global model takes: by the server's rate or its optimiser, within a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np

from flwr_krum.boundary.replies import in_a_sentence
from flwr_krum.kernel.arrays import Array, are_finite
from flwr_krum.kernel.pairwise import lengths
from flwr_krum.kernel.updates import BLOCK, ClientUpdates
from flwr_krum.kernel.ways import gram
from flwr_krum.moments import Moments, OptimizerState, remembered
from flwr_krum.optimizers import ServerOptimizer
from flwr_krum.report import RoundReport

LearningRate: TypeAlias = float | Callable[[int], float]
"""The server's rate: a number, or a function of the round."""

LARGEST_STEP = 10.0
"""Median update lengths beyond which a step of an unbounded rule is not taken."""


NOT_FINITE = "the aggregate is not finite"
STEP_NOT_FINITE = "the server optimizer's step is not finite: it is not taken"


class Step(NamedTuple):
    """Where a step leads, and why it is not to be taken, empty if it is.

    Of an optimiser's, what is remembered, and how it compares with the aggregate's, see `compared`.
    """

    layers: Sequence[Array]
    problem: str
    moments: Moments | None
    compared: Mapping[str, float] = MappingProxyType({})


@dataclass
class ServerStep:
    """How the global model moves from round to round.

    Parameters
    ----------
    rate : float or callable, round -> float
    optimizer : ServerOptimizer, optional
        Instead of a rate.

    Raises
    ------
    TypeError, ValueError
        If one of them is not of its kind, or both are set.
    """

    rate: LearningRate = 1.0
    optimizer: ServerOptimizer | None = None
    moments: Moments = field(default_factory=Moments, init=False)

    def __post_init__(self) -> None:
        if not callable(self.rate):
            check_rate(self.rate)
        if self.optimizer is None:
            return
        if not isinstance(self.optimizer, ServerOptimizer):
            raise TypeError(
                "server_optimizer must be one of flwr_krum.optimizers such as FedAdam(eta=0.01), "
                f"got {self.optimizer!r}"
            )
        if self.rate != 1.0:
            raise ValueError(
                "server_learning_rate and server_optimizer are both set: leave out the former, "
                f"the rate of {self.optimizer} is its eta"
            )

    def __str__(self) -> str:
        if self.optimizer is not None:
            return f"Server optimizer: {self.optimizer}"
        rate = "a function of the round" if callable(self.rate) else self.rate
        return f"Server learning rate: {rate}"

    def go_on(
        self, state: OptimizerState | None, rounds_done: int, past: Sequence[RoundReport] | None
    ) -> None:
        """Take up what the optimiser remembers of the rounds that are done.

        Parameters
        ----------
        state : mapping of name to array, or "fresh", optional
        rounds_done : int
        past : sequence of RoundReport, optional
            What a journal says of them.

        Raises
        ------
        ValueError
            If there is no optimiser; OptimizerStateError if the state is not that of these rounds.
        """
        if self.optimizer is not None:
            last = (
                None
                if past is None
                else max((r.server_round for r in past if r.optimizer), default=0)
            )
            self.moments = remembered(self.optimizer.start, state, rounds_done, last)
        elif state is not None:
            raise ValueError("server_optimizer_state is given without a server_optimizer")

    def towards(
        self,
        layers: Sequence[Array],
        updates: ClientUpdates,
        keys: Sequence[str],
        server_round: int,
        limit: float,
    ) -> Step:
        """Return the step to an aggregate; nothing is remembered of it yet.

        Parameters
        ----------
        layers : L arrays
            The aggregate.
        updates : ClientUpdates
            Of the accepted clients.
        keys : L keys
        server_round : int
        limit : float
            How long the step to the aggregate may be, see `too_far`.

        Raises
        ------
        ValueError
            If the global model is needed and unknown, or the rate is none.
        """
        if self.optimizer is None:
            moving = moved(layers, updates.reference, rate_of(self.rate, server_round))
            problem = "" if _all_finite(moving) else NOT_FINITE
            return Step(moving, problem or too_far(updates, layers, limit), None)
        if updates.reference is None:
            raise ValueError(
                f"{self.optimizer} needs the global model: let the strategy configure the round"
            )
        problem = "" if _all_finite(layers) else NOT_FINITE
        if problem := problem or too_far(updates, layers, limit):
            return Step(layers, problem, None)
        model, aggregate = (dict(zip(keys, x, strict=True)) for x in (updates.reference, layers))
        new, moments = self.optimizer.step(self.moments, model, aggregate, server_round)
        if not (_all_finite(new.values()) and moments.are_finite()):
            return Step(layers, STEP_NOT_FINITE, None)
        taken = list(new.values())
        return Step(taken, "", moments, compared(updates, layers, taken))


def compared(
    updates: ClientUpdates, aggregate: Sequence[Array], taken: Sequence[Array]
) -> dict[str, float]:
    """Return the lengths of the steps to the aggregate and taken, their ratio and their cosine.

    Over all float arrays that travel. What is no finite number is left out.

    Parameters
    ----------
    updates : ClientUpdates
        Of the accepted clients, with the global model that they started from.
    aggregate, taken : L arrays
    """
    both = ClientUpdates(
        (tuple(aggregate), tuple(taken)), updates.reference, updates.dtypes, updates.device
    )
    with np.errstate(over="ignore", invalid="ignore"):
        products = gram(both)
        to_aggregate, own = np.sqrt(np.diagonal(products)).tolist()
    ratio = own / to_aggregate if to_aggregate else math.nan
    cosine = float(products[0, 1]) / to_aggregate / own if to_aggregate and own else math.nan
    found = {"aggregate": to_aggregate, "taken": own, "ratio": ratio, "cosine": cosine}
    return {name: value for name, value in found.items() if math.isfinite(value)}


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
        raise ValueError(f"{name} raises {in_a_sentence(error)}") from error
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


def _all_finite(layers: Iterable[Array]) -> bool:
    return are_finite(layer for layer in layers if layer.dtype.kind == "f")


def _step_layer(old: Array, new: Array, rate: float) -> Array:
    moved = np.empty(new.shape, new.dtype)  # in C order, so that its flat view is no copy
    flat, before, after = moved.reshape(-1), old.reshape(-1), new.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        x = before[part].astype(np.float64)
        flat[part] = x + rate * (after[part] - x)
    return moved
