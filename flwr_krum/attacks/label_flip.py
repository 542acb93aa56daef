"""Honest training on labels that are wrong. Source: Biggio et al., ACML 2011, and common since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.checks import one_of, whole_number
from flwr_krum.kernel.arrays import Array, Float64, Indices

Way: TypeAlias = Literal["reversed", "derangement", "pair"]

TEN = (5, 0, 7, 1, 3, 4, 8, 2, 9, 6)
"""What velocity-fl makes of each of ten labels."""

SEED = 137
"""Of the derangements of other numbers of labels."""


@dataclass(frozen=True)
class LabelFlip(Attack):
    """Train as an honest client does, on labels that are changed.

    Parameters
    ----------
    way : "reversed" | "derangement" | "pair" (default: "reversed")
        Label y becomes ``C - 1 - y`` of C classes, which leaves the middle one of an odd number;
        or another one for each label, `derangement`; or one label becomes another.
    source, target : int (default: 0, 1)
        The label that is changed where the way is "pair", and to what.

    Raises
    ------
    ValueError
        If there is no such way, or a label is negative, or both are the same; on a batch, if the
        task does not have the labels.
    """

    way: Way = "reversed"
    source: int = 0
    target: int = 1

    knowledge = "own"
    facts = AttackFacts(
        source="Biggio, Nelson, Laskov, ACML 2011; in federated learning since Fung et al., 2018",
        formula="u, trained on C - 1 - y, or on a derangement of the labels, or on one label in "
        "place of another",
        breaks="the mean, partly: it slows",
        resists="most robust rules",
        differs="in ByzFL every honest client computes the gradient on flipped labels too, and the "
        "attackers send the mean of those, without momentum; velocity-fl has one derangement of "
        "ten labels; FLPoison turns one class into another",
    )

    def __post_init__(self) -> None:
        one_of("way", self.way, ("reversed", "derangement", "pair"))
        whole_number("source", self.source, 0)
        whole_number("target", self.target, 0)
        if self.source == self.target:
            raise ValueError(f"target is {self.target}, expected another label than the source")

    @property
    def needs(self) -> frozenset[Need]:
        """What the attackers learn."""
        return frozenset({"own"})

    @property
    def changes_data(self) -> bool:
        """The labels."""
        return True

    def poisoned(self, x: Array, y: Array, classes: int) -> tuple[Array, Array]:
        """Return the examples as they are, and other labels (N,)."""
        return x, self._labels(classes)[y].astype(y.dtype)

    def _labels(self, classes: int) -> Indices:
        """Return what becomes of each label."""
        labels = np.arange(classes)
        if self.way == "reversed":
            return labels[::-1]
        if self.way == "derangement":
            return derangement(classes)
        if max(self.source, self.target) >= classes:
            raise ValueError(
                f"source is {self.source} and target {self.target}, expected labels < {classes}"
            )
        labels[self.source] = self.target
        return labels

    def rows(self, scene: Scene) -> Float64:
        """Return what each attacker learnt."""
        own: Float64 = scene.required("own")
        return own


def derangement(classes: int) -> Indices:
    """Return another label for each label, the same in every call.

    Of ten labels it is velocity-fl's; of other numbers the first permutation without a fixed point
    that a generator with its seed, 137, draws.

    Raises
    ------
    ValueError
        If there are fewer than two labels.

    Examples
    --------
    >>> derangement(10).tolist()
    [5, 0, 7, 1, 3, 4, 8, 2, 9, 6]
    """
    if classes == len(TEN):
        return np.array(TEN)
    if classes < 2:
        raise ValueError(f"classes is {classes}, expected at least two to take each other's place")
    rng = np.random.default_rng(SEED)
    while True:
        drawn = rng.permutation(classes)
        if (drawn != np.arange(classes)).all():
            return drawn
