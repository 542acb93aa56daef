"""The true gradient, reversed and blown up. Source: Blanchard et al., NIPS 2017, section 5."""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.checks import number, whole_number
from flwr_krum.kernel.arrays import Float64


@dataclass(frozen=True)
class Omniscient(Attack):
    """Send the gradient over all training data, reversed: ``V = -factor grad Q``.

    As an update that is ``rate factor grad Q``: a step up the loss.

    Parameters
    ----------
    factor : float (default: 1e4)
    examples : int (default: 0)
        Fresh examples of the adversary's estimate in each round; 0 is all training data.

    Raises
    ------
    ValueError
        If one is negative, or the factor not finite.
    """

    factor: float = 1e4
    examples: int = 0

    knowledge = "none"
    facts = AttackFacts(
        source="Blanchard, El Mhamdi, Guerraoui, Stainer, NIPS 2017, section 5 and supplement",
        formula="rate factor grad Q",
        breaks="the mean; coordinate-wise rules with a large share of attackers",
        resists="rules that choose by distances",
        differs="krum 0.9.1: factor 100",
    )

    def __post_init__(self) -> None:
        number("factor", self.factor, least=0.0)
        whole_number("examples", self.examples, 0)

    @property
    def needs(self) -> frozenset[Need]:
        """The gradient."""
        return frozenset({"gradient"})

    @property
    def gradient_examples(self) -> int:
        """The examples of the estimate."""
        return self.examples

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        gradient: Float64 = scene.required("gradient")
        return (scene.rate * self.factor) * gradient
