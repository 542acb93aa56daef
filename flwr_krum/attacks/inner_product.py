"""The honest mean, reversed by a factor. Source: Xie, Koyejo, Gupta, UAI 2019."""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.attacks.attack import Attack, AttackFacts, Scene
from flwr_krum.checks import number
from flwr_krum.kernel.arrays import Float64


@dataclass(frozen=True)
class IPM(Attack):
    """Send ``-factor mu``, where mu is the mean of the honest updates.

    The mean of all n then has the inner product ``(h - factor f) / n ||mu||^2`` with mu: it points
    backwards if ``factor > h / f``.

    Parameters
    ----------
    factor : float (default: 0.5)
        The paper's epsilon.

    Raises
    ------
    ValueError
        If it is negative or not finite.
    """

    factor: float = 0.5

    facts = AttackFacts(
        source="Xie, Koyejo, Gupta, UAI 2019, section 4 (number not checked)",
        formula="-factor mu, the same for all",
        breaks="Krum, Bulyan and the trimmed mean with a small factor, .1 to .5; the mean and "
        "medians with a large one",
        resists="the mean while factor < h / f; NNM before a rule",
    )

    def __post_init__(self) -> None:
        number("factor", self.factor, least=0.0)

    def rows(self, scene: Scene) -> Float64:
        """Return the one row that all send."""
        return -self.factor * scene.mean
