"""All attackers say what one honest client says. Source: Karimireddy, He, Jaggi, ICLR 2022."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.attacks.scaling import scaled
from flwr_krum.checks import one_of, whole_number
from flwr_krum.kernel.arrays import Array, Float64

Of: TypeAlias = Literal["largest", "magnitude"]


@dataclass(frozen=True)
class Mimic(Attack):
    """Send the update of the honest client that lies farthest in the direction of most variation.

    Without a warm-up that direction z is the top eigenvector of the round's honest covariance, its
    largest entry positive, and the client is chosen anew in each round. With one, z is followed by
    Oja's steps through the first rounds, t = 1, 2, ...::

        mean <- t/(1+t) mean + 1/(1+t) mu
        step  = sum_i <x_i - mean, z> (x_i - mean)
        z    <- t/(1+t) z + 1/(1+t) step / ||step||, normalised

    from the first round's mean and top eigenvector (t = 0); afterwards the client that was chosen
    in the last round of the warm-up is kept, by its place among the honest updates. Where all
    honest updates are equal it is the first.

    Parameters
    ----------
    warm_up : int (default: 0)
        Rounds; 0 is none.
    of : "largest" | "magnitude" (default: "largest")
        Whether ``<x_i - mu, z>`` is the largest, or its size is.
    index : int, optional
        A client to mimic in every round instead, by its place among the honest updates.

    Raises
    ------
    ValueError
        If a number is negative, there is no such ``of``, or both a warm-up and an index are given;
        when called, if there is no client at the index.
    """

    warm_up: int = 0
    of: Of = "largest"
    index: int | None = None

    facts = AttackFacts(
        source="Karimireddy, He, Jaggi, ICLR 2022, appendix (number not checked)",
        formula="x_i*, i* = argmax_i <x_i - mu, z>, z the honest updates' top eigenvector",
        breaks="Krum and medians on unequal data",
        resists="NNM or buckets before a rule; every rule on equal data",
        differs="the authors' code begins with a random z; CRYPTO-KU never fixes the client; "
        "ByzFL, FLPoison and byzpy mimic a fixed one, index=0",
    )

    def __post_init__(self) -> None:
        whole_number("warm_up", self.warm_up, 0)
        one_of("of", self.of, ("largest", "magnitude"))
        if self.index is not None:
            whole_number("index", self.index, 0)
            if self.warm_up:
                raise ValueError(
                    f"warm_up is {self.warm_up}, expected 0 with an index: no client is looked for"
                )

    @property
    def needs(self) -> frozenset[Need]:
        """The rounds before, where there is a warm-up."""
        return frozenset({"memory"}) if self.warm_up else frozenset()

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        sent: Float64 = scene.honest[self._place(scene)]
        return sent

    def _place(self, scene: Scene) -> int:
        """Return whose update is sent."""
        h = len(scene.honest)
        if self.index is not None:
            if self.index >= h:
                raise ValueError(f"index is {self.index}, expected < {h}, the honest updates seen")
            return self.index
        centred = scene.honest - scene.mean
        if not self.warm_up:
            return self._farthest(centred, top_direction(centred))
        memory: MutableMapping[str, Array] = scene.required("memory")
        rounds = int(memory.get("rounds", 0))
        if rounds < self.warm_up:
            _follow(memory, scene, rounds)
            memory["rounds"] = np.array(rounds + 1)
            memory["place"] = np.array(self._farthest(centred, memory["direction"]))
        elif int(memory["place"]) >= h:  # fewer are seen than in the warm-up
            memory["place"] = np.array(self._farthest(centred, memory["direction"]))
        return int(memory["place"])

    def _farthest(self, centred: Float64, direction: Array) -> int:
        along = scaled(centred)[0] @ direction
        return int(np.argmax(np.abs(along) if self.of == "magnitude" else along))


def top_direction(centred: Float64) -> Float64:
    """Return the unit eigenvector (d,) of the covariance's largest eigenvalue; 0 of no variation.

    Its entry of the largest size is positive. It is found in the (h, h) products of the centred
    updates (h, d).
    """
    rows, _ = scaled(centred)
    _, vectors = np.linalg.eigh(rows @ rows.T)
    direction = _unit(vectors[:, -1] @ rows)
    if direction.size and direction[np.argmax(np.abs(direction))] < 0.0:
        return -direction
    return direction


def _follow(memory: MutableMapping[str, Array], scene: Scene, t: int) -> None:
    """Take one of Oja's steps."""
    if t == 0:
        memory["mean"] = scene.mean
        memory["direction"] = top_direction(scene.honest - scene.mean)
        return
    memory["mean"] = t / (1 + t) * memory["mean"] + scene.mean / (1 + t)
    rows, _ = scaled(scene.honest - memory["mean"])
    step = _unit((rows @ memory["direction"]) @ rows)
    memory["direction"] = _unit(t / (1 + t) * memory["direction"] + step / (1 + t))


def _unit(vector: Float64) -> Float64:
    norm = np.linalg.norm(vector)
    unit: Float64 = vector / norm if norm > 0.0 else vector
    return unit
