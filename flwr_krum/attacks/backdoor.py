"""A trigger in the examples that means a label.

Sources: Gu, Dolan-Gavitt, Garg, BadNets, 2017; in federated learning Bagdasaryan et al., AISTATS
2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import EllipsisType
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.checks import number, one_of, whole_number
from flwr_krum.kernel.arrays import Array, Float64

Corner: TypeAlias = Literal["bottom-right", "bottom-left", "top-right", "top-left"]

CORNERS: tuple[Corner, ...] = ("bottom-right", "bottom-left", "top-right", "top-left")


@dataclass(frozen=True)
class Backdoor(Attack):
    """Train on examples of which some bear a trigger and the label that it shall mean.

    In images (N, ..., H, W) the trigger is a bright square of all channels in a corner; in vectors
    of features (N, d) it is the last ``size`` of them, whatever the corner.

    Parameters
    ----------
    size : int (default: 3)
        Side of the square, or number of features.
    share : float (default: 0.5)
        Of each batch: its first ``ceil(share N)`` examples are triggered.
    target : int (default: 0)
        The label that they get.
    value : float, optional
        Of the pixels or features; by default the largest number in the batch.
    boost : float (default: 1)
        The update is sent ``boost`` times as long.
    corner : "bottom-right" | "bottom-left" | "top-right" | "top-left" (default: "bottom-right")

    Raises
    ------
    ValueError
        If a number is out of bounds, or there is no such corner; on a batch, if the trigger does
        not fit in, or the task does not have the label.
    """

    size: int = 3
    share: float = 0.5
    target: int = 0
    value: float | None = None
    boost: float = 1.0
    corner: Corner = "bottom-right"

    knowledge = "own"
    facts = AttackFacts(
        source="Gu, Dolan-Gavitt, Garg, 2017 (BadNets); Bagdasaryan et al., AISTATS 2020",
        formula="boost u, trained on batches of which a share has the trigger and its label",
        breaks="the mean, with a boost; distance rules on unequal data, without",
        resists="no rule for certain: an update of boost 1 is an honest one of other data",
        differs="some set the trigger before the examples are normalised, some beyond the largest "
        "pixel; some count examples of the target class as successes",
    )

    def __post_init__(self) -> None:
        whole_number("size", self.size, 1)
        number("share", self.share, least=0.0, most=1.0)
        whole_number("target", self.target, 0)
        if self.value is not None:
            number("value", self.value)
        number("boost", self.boost, least=0.0)
        one_of("corner", self.corner, CORNERS)

    @property
    def needs(self) -> frozenset[Need]:
        """What the attackers learn."""
        return frozenset({"own"})

    @property
    def changes_data(self) -> bool:
        """Examples and labels."""
        return True

    def poisoned(self, x: Array, y: Array, classes: int) -> tuple[Array, Array]:
        """Return copies of examples (N, ...) and labels (N,), the first of them changed."""
        if self.target >= classes:
            raise ValueError(f"target is {self.target}, expected a label < {classes}")
        # .1 of 30 examples are 3, although their product is a little more in float64.
        count = math.ceil(round(self.share * len(x), 9))
        examples, labels = x.copy(), y.copy()
        examples[:count] = self._marked(x[:count], x)
        labels[:count] = self.target
        return examples, labels

    def triggered(self, x: Array) -> Array:
        """Return examples (N, ...) that all bear the trigger."""
        return self._marked(x, x)

    def success(self, predicted: Array, y: Array) -> float:
        """Return the attack's success rate.

        Parameters
        ----------
        predicted : (N,)
            The labels that a model gives to triggered examples.
        y : (N,)
            Their true labels.

        Returns
        -------
        float
            The share of examples not of the target class that are taken for it; NaN if there are
            none.
        """
        others = y != self.target
        return float(np.mean(predicted[others] == self.target)) if others.any() else math.nan

    def _marked(self, x: Array, batch: Array) -> Array:
        """Return a copy with the trigger, as bright as the brightest of a batch."""
        lengths = x.shape[1:] if x.ndim == 2 else x.shape[-2:]
        if x.ndim < 2 or min(lengths) < self.size:
            raise ValueError(
                f"size is {self.size}, expected a trigger that fits into examples of shape "
                f"{x.shape[1:]}"
            )
        marked = x.copy()
        if x.size:
            marked[self._trigger(x.ndim)] = batch.max() if self.value is None else self.value
        return marked

    def _trigger(self, dimensions: int) -> tuple[slice | EllipsisType, ...]:
        """Return where the trigger is in a batch."""
        first, last = slice(None, self.size), slice(-self.size, None)
        if dimensions == 2:
            return (slice(None), last)
        vertical, horizontal = self.corner.split("-")
        return (
            ...,
            last if vertical == "bottom" else first,
            last if horizontal == "right" else first,
        )

    def rows(self, scene: Scene) -> Float64:
        """Return what each attacker learnt, boosted."""
        rows: Float64 = self.boost * scene.required("own")
        return rows
