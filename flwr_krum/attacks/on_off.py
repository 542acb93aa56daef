"""Honest rounds before, after and between attacks; what rules that remember are fooled with.

No single source: attacks that sleep are in papers on reputation and on rules with memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr_krum.attacks.attack import AttackFacts, Wrapper
from flwr_krum.checks import whole_number


@dataclass(frozen=True)
class OnOff(Wrapper):
    """Attack in some rounds, and be honest in the others.

    The attack is at work in round t, counted from 1, if all of these hold:

    - ``t >= start``;
    - ``t < start + rounds``, unless ``rounds`` is 0;
    - ``(t - start) mod period < duty``, unless ``period`` is 0.

    What the attack remembers stands still in rounds in which it is not at work.

    Parameters
    ----------
    start : int (default: 1)
        The first round of the attack.
    rounds : int (default: 0)
        How many rounds it goes on for, pauses among them; 0 is without end.
    period : int (default: 0)
        After how many rounds it begins anew; 0 is without pauses.
    duty : int (default: 1)
        In how many rounds of a period, its first ones, it is at work.

    Raises
    ------
    ValueError
        If one is out of bounds, or the duty longer than the period.

    Examples
    --------
    >>> from flwr_krum.attacks.written import parse_attack
    >>> attack = parse_attack("on-off(start=3, period=4, duty=2) | sign-flip")
    >>> [t for t in range(1, 13) if attack.is_at_work(t)]
    [3, 4, 7, 8, 11, 12]
    """

    start: int = 1
    rounds: int = 0
    period: int = 0
    duty: int = 1

    facts = AttackFacts(
        source="this package; in many papers on reputation",
        formula="the attack's rows, or u in rounds in which it is not at work",
        breaks="rules with memory and reputation",
        resists="rules without memory: they see nothing new",
    )

    def __post_init__(self) -> None:
        whole_number("start", self.start, 1)
        whole_number("rounds", self.rounds, 0)
        whole_number("period", self.period, 0)
        whole_number("duty", self.duty, 1)
        if self.period and self.duty > self.period:
            raise ValueError(
                f"duty is {self.duty}, expected at most the period, which is {self.period}"
            )

    def is_at_work(self, server_round: int) -> bool:
        """Say whether the attack behind it attacks in a round."""
        since = server_round - self.start
        mine = (
            since >= 0
            and (not self.rounds or since < self.rounds)
            and (not self.period or since % self.period < self.duty)
        )
        return mine and self.attack.is_at_work(server_round)
