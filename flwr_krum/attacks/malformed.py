"""Replies that are no model, as an attack: honest updates whose bytes are broken on the way out."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import RecordDict

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene
from flwr_krum.attacks.faults import FAULTS
from flwr_krum.checks import one_of
from flwr_krum.kernel.arrays import Float64


@dataclass(frozen=True)
class Malformed(Attack):
    """Send the honest update in a reply that is broken.

    Parameters
    ----------
    fault : str (default: "nan")
        What is wrong with it, a name in `flwr_krum.attacks.FAULTS`.

    Raises
    ------
    ValueError
        If there is no such fault.
    """

    fault: str = "nan"

    knowledge = "own"
    facts = AttackFacts(
        source="this package",
        formula="u, in a reply with the fault",
        breaks="servers that average what comes: NaN, Inf, claimed sizes, shapes, bytes",
        resists="every strategy of this package: the intake refuses such a reply by name",
    )

    def __post_init__(self) -> None:
        one_of("fault", self.fault, tuple(FAULTS))

    @property
    def needs(self) -> frozenset[Need]:
        """The honest updates."""
        return frozenset({"own"})

    def rows(self, scene: Scene) -> Float64:
        """Return the honest updates."""
        own: Float64 = scene.required("own")
        return own

    def spoiled(self, content: RecordDict) -> RecordDict:
        """Break the reply."""
        FAULTS[self.fault](content)
        return content
