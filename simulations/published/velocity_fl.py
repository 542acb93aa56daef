"""What velocity-fl's arena has that this package has not under a name: model, rule, attacks.

Its attacks forge weights instead of updates. Written as
``simulations.published.velocity_fl:OnWeights | sign-flip``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from flwr_krum.attacks.attack import Attack, Knowledge, Need, Scene, Wrapper
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules import Krum, Mixing


class Perceptron(nn.Sequential):
    """A perceptron 784-128-64-10 with ReLU; d = 109,386."""

    def __init__(self) -> None:
        layers = OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            hidden1=nn.Linear(784, 128),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(128, 64),
            relu2=nn.ReLU(),
            output=nn.Linear(64, 10),
        )
        super().__init__(layers)


@dataclass(frozen=True)
class SingleShot(Mixing):
    """Keep the n - 2f updates of smallest Krum score, all scored once.

    Before a trimmed mean it is what velocity-fl calls Bulyan, whose paper scores anew after each
    choice.

    Parameters
    ----------
    f : int, optional
        Byzantine clients to tolerate, ``2f + 2 < n``; None is as many as the rule behind tolerates.
    """

    requirement = "2f + 2 < n"

    def least(self, f: int) -> int:
        """Return ``2f + 3``."""
        return 2 * f + 3

    def rows(self, n: int) -> int:
        """Return ``n - 2f``."""
        return n - 2 * (self.f or 0)

    def matrix(self, geometry: Geometry, server_round: int) -> Float64:
        """Return a row for each update that is kept."""
        f = self.f or 0
        scores = Krum(f).choose(geometry, server_round).scores
        assert scores is not None  # Krum has some
        kept = np.sort(np.argsort(scores, kind="stable")[: self.rows(geometry.n)])
        rows: Float64 = np.eye(geometry.n)[kept]
        return rows


@dataclass(frozen=True)
class OnWeights(Wrapper):
    """Ask the attack behind it for models instead of updates: ``w + u`` go in, and w is taken off.

    What it negates or replaces is then the whole model.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What the other one needs, and the model."""
        return self.attack.needs | {"model"}

    def is_at_work(self, server_round: int) -> bool:
        """Say whether the other one is."""
        return self.attack.is_at_work(server_round)

    def rows(self, scene: Scene) -> Float64:
        """Return the other one's models, less the global one."""
        w: Float64 = scene.required("model")
        own = None if scene.own is None else scene.own + w
        models: Float64 = self.attack.rows(replace(scene, honest=scene.honest + w, own=own))
        return models - w


@dataclass(frozen=True)
class SignOfWeights(Attack):
    """Send ``w - sign(mean of the attackers' weights)``; for `OnWeights`.

    What velocity-fl's Fang attack on Krum comes to with two attackers: its simulation has too few
    vectors for Krum, fails at once, and leaves lambda at 1.
    """

    knowledge: Knowledge = "colluding"  # type: ignore[misc]

    @property
    def needs(self) -> frozenset[Need]:
        """The model."""
        return frozenset({"model"})

    def rows(self, scene: Scene) -> Float64:
        """Return the one model that all send."""
        w: Float64 = scene.required("model")
        return w - np.sign(scene.mean)
