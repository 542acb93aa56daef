"""Server optimisers on top of an aggregate: its step from the global model is their gradient.

Sources: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, "Adaptive Federated
Optimization", ICLR 2021, algorithm 2 (FedAdagrad, FedYogi, FedAdam); Hsu, Qi, Brown, "Measuring
the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019 (FedAvgM).

With the global model x and its aggregate F, ``D = F - x``, array by array, under its key.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real

import numpy as np

from flwr_krum.calls import build, look_up, parse_calls, reading
from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.updates import BLOCK
from flwr_krum.moments import Moments, moment_dtype


@dataclass(frozen=True)
class ServerOptimizer(ABC):
    """Moves the global model by what it remembers of the steps to the aggregates."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            least, below = (0.0, 1.0) if each.name.startswith("beta") else (5e-324, math.inf)
            if not (is_number and least <= float(value) < below):
                legal = "0 <= beta < 1" if below == 1.0 else "a finite number > 0"
                name = f"{type(self).__name__}: {each.name}"
                raise ValueError(f"{name} must be {legal}, got {value!r}")
            object.__setattr__(self, each.name, float(value))

    @property
    @abstractmethod
    def beginning(self) -> Mapping[str, float]:
        """The names of the moments, and what each holds before the first step."""

    @property
    def start(self) -> Moments:
        """What it remembers before the first step."""
        return Moments(type(self).__name__, 0, {name: {} for name in self.beginning})

    @abstractmethod
    def advance(self, x: Float64, D: Float64, *moments: Float64) -> tuple[Float64, ...]:
        """Return the model's step, and the moments after it.

        Parameters
        ----------
        x : (k,)
            The model, in some coordinates.
        D : (k,)
            The aggregate's step, in the same.
        *moments : (k,) each
            As they were, in the order of `beginning`.
        """

    def step(
        self,
        moments: Moments,
        model: Mapping[str, Array],
        aggregate: Mapping[str, Array],
        server_round: int,
    ) -> tuple[dict[str, Array], Moments]:
        """Return the arrays that an aggregate leads to, and the moments after it.

        Neither need be finite. Arrays that the aggregate lacks keep their moments.

        Parameters
        ----------
        moments : Moments
        model, aggregate : mapping of key to array
            What are no floats, counters, take the aggregate's value.
        server_round : int
        """
        moved = dict(aggregate)
        after = {name: dict(moments.arrays.get(name, {})) for name in self.beginning}
        for key, goal in aggregate.items():
            if goal.dtype.kind == "f":
                before = [
                    after[name][key]
                    if key in after[name]
                    else np.full(goal.shape, value, moment_dtype(goal.dtype))
                    for name, value in self.beginning.items()
                ]
                moved[key], *remembered = self._layer(model[key], goal, before)
                for name, array in zip(after, remembered, strict=True):
                    after[name][key] = array
        return moved, Moments(moments.kind, server_round, after)

    def _layer(self, model: Array, aggregate: Array, moments: Sequence[Array]) -> list[Array]:
        """Return a layer and its moments after a step that is taken in blocks of float64."""
        # In C order, so that their flat views are no copies.
        made = [np.empty(aggregate.shape, array.dtype) for array in (aggregate, *moments)]
        old, new, *before = (array.reshape(-1) for array in (model, aggregate, *moments))
        after = [array.reshape(-1) for array in made]
        for start in range(0, new.size, BLOCK):
            part = slice(start, start + BLOCK)
            with np.errstate(over="ignore", invalid="ignore"):
                x, F, *m = (array[part].astype(np.float64) for array in (old, new, *before))
                step, *m = self.advance(x, F - x, *m)
                for array, values in zip(after, (x + step, *m), strict=True):
                    array[part] = values
        return made


@dataclass(frozen=True)
class SGD(ServerOptimizer):
    """Move to the aggregate, and let the model decay on the way; it remembers nothing.

    ``x += eta (D - decay x)``: the decay of the weights after the aggregation, which no client and
    no rule sees.

    Parameters
    ----------
    eta : float (default: 1.0)
        The server's rate, > 0.
    decay : float (default: 1e-5)
        The share of the model that a round takes, > 0: the clients' rate times their loss's
        weight decay.

    Raises
    ------
    ValueError
        If one is not legal.
    """

    eta: float = 1.0
    decay: float = 1e-5

    @property
    def beginning(self) -> Mapping[str, float]:
        """Nothing."""
        return {}

    def advance(self, x: Float64, D: Float64, *moments: Float64) -> tuple[Float64, ...]:
        """Return the model's step."""
        return (self.eta * (D - self.decay * x),)


@dataclass(frozen=True)
class FedAvgM(ServerOptimizer):
    """Move by a sum of steps, of which each counts for less as it ages.

    ``m = beta m + D; x += eta m``. A lasting step adds up to ``1 / (1 - beta)`` times itself.

    Parameters
    ----------
    eta : float (default: 1.0)
        The server's rate, > 0.
    beta : float (default: 0.9)
        What remains of the momentum in a round, ``0 <= beta < 1``.

    Raises
    ------
    ValueError
        If one is not legal.
    """

    eta: float = 1.0
    beta: float = 0.9

    @property
    def beginning(self) -> Mapping[str, float]:
        """The momentum, 0."""
        return {"m": 0.0}

    def advance(self, x: Float64, D: Float64, *moments: Float64) -> tuple[Float64, ...]:
        """Return the model's step and the momentum."""
        (m,) = moments
        m = self.beta * m + D
        return self.eta * m, m


class Adaptive(ServerOptimizer):
    """Scale each coordinate's step by the root of a second moment v, which begins with ``tau^2``.

    ``m = beta_1 m + (1 - beta_1) D; x += eta m / (sqrt(v) + tau)``, without bias correction; what
    becomes of v is the optimiser's own.
    """

    eta: float
    beta_1: float
    tau: float

    @property
    def beginning(self) -> Mapping[str, float]:
        """The first moment, 0, and the second, tau^2."""
        return {"m": 0.0, "v": self.tau**2}

    def advance(self, x: Float64, D: Float64, *moments: Float64) -> tuple[Float64, ...]:
        """Return the model's step and both moments."""
        m, v = moments
        m = self.beta_1 * m + (1.0 - self.beta_1) * D
        v = self.second(v, D * D)
        return self.eta * m / (np.sqrt(v) + self.tau), m, v

    @abstractmethod
    def second(self, v: Float64, squared: Float64) -> Float64:
        """Return the second moment after a step, from before it and the step's square."""


@dataclass(frozen=True)
class FedAdagrad(Adaptive):
    """Scale each coordinate's step by the root of the sum of all squares; it never forgets one.

    ``v += D^2; m = beta_1 m + (1 - beta_1) D; x += eta m / (sqrt(v) + tau)``.

    Parameters
    ----------
    eta : float (default: 0.1)
        The server's rate, > 0.
    beta_1 : float (default: 0.0)
        What remains of the first moment in a round, ``0 <= beta_1 < 1``.
    tau : float (default: 1e-3)
        How little adapts, > 0: the larger, the closer to momentum.

    Raises
    ------
    ValueError
        If one is not legal.
    """

    eta: float = 0.1
    beta_1: float = 0.0
    tau: float = 1e-3

    def second(self, v: Float64, squared: Float64) -> Float64:
        """Return the sum of squares."""
        return v + squared


@dataclass(frozen=True)
class FedYogi(Adaptive):
    """Scale each coordinate's step by the root of a second moment that changes by small steps.

    ``v -= (1 - beta_2) D^2 sign(v - D^2); m = beta_1 m + (1 - beta_1) D;
    x += eta m / (sqrt(v) + tau)``.

    Parameters
    ----------
    eta : float (default: 0.1)
        The server's rate, > 0.
    beta_1 : float (default: 0.9)
        What remains of the first moment in a round, ``0 <= beta_1 < 1``.
    beta_2 : float (default: 0.99)
        How little of a square the second moment takes up, ``0 <= beta_2 < 1``.
    tau : float (default: 1e-3)
        How little adapts, > 0: the larger, the closer to momentum.

    Raises
    ------
    ValueError
        If one is not legal.
    """

    eta: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def second(self, v: Float64, squared: Float64) -> Float64:
        """Return the second moment moved towards the square, by a share of the square."""
        moved: Float64 = v - (1.0 - self.beta_2) * squared * np.sign(v - squared)
        return moved


@dataclass(frozen=True)
class FedAdam(Adaptive):
    """Scale each coordinate's step by the root of a running mean of its squares.

    ``v = beta_2 v + (1 - beta_2) D^2; m = beta_1 m + (1 - beta_1) D;
    x += eta m / (sqrt(v) + tau)``.

    Parameters
    ----------
    eta : float (default: 0.1)
        The server's rate, > 0.
    beta_1 : float (default: 0.9)
        What remains of the first moment in a round, ``0 <= beta_1 < 1``.
    beta_2 : float (default: 0.99)
        What remains of the second moment in a round, ``0 <= beta_2 < 1``.
    tau : float (default: 1e-3)
        How little adapts, > 0: the larger, the closer to momentum.

    Raises
    ------
    ValueError
        If one is not legal.
    """

    eta: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def second(self, v: Float64, squared: Float64) -> Float64:
        """Return the running mean of the squares."""
        return self.beta_2 * v + (1.0 - self.beta_2) * squared


OPTIMIZERS: Mapping[str, type[ServerOptimizer]] = {
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "sgd": SGD,
}
"""The optimisers by the names under which they are written."""


def parse_optimizer(text: str) -> ServerOptimizer:
    """Return the optimiser that a text describes: a name in `OPTIMIZERS`, with arguments.

    Raises
    ------
    ValueError
        If the text is no call, or of no optimiser, or an argument is not legal.

    Examples
    --------
    >>> parse_optimizer("fedadam(eta=0.01)")
    FedAdam(eta=0.01, beta_1=0.9, beta_2=0.99, tau=0.001)
    """
    with reading("server optimizer", text):
        call, *others = parse_calls(text)
        kind = look_up(call, OPTIMIZERS)
        if others or not (isinstance(kind, type) and issubclass(kind, ServerOptimizer)):
            what = "a chain" if others else f"no subclass of {ServerOptimizer.__qualname__}"
            raise ValueError(f"it is {what}, expected one optimizer")
        return build(call, kind, {})
