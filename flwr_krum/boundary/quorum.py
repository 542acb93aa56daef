"""When a round may close before all have answered: a pure function of when replies came.

An option, and off by default: whoever is left out is left out of the model, and no rule can see
that. What it costs is measured in docs/waiting.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_high

from flwr_krum.checks import number, whole_number

GRACE = 0.5
"""How much longer a round waits, as a share of the median arrival of those that made the quorum."""

WAIT = 5.0
"""Seconds that a round waits at least. A SuperNode of Flower that finds nothing to do sleeps for
three seconds: nodes that are equally fast answer that far from each other."""


@dataclass(frozen=True)
class Quorum:
    """Enough replies for a round to close without the others.

    With the times t_(1) <= t_(2) <= ... at which sound replies came, a round closes at

        max(t_(least) + grace * median(t_(1), ..., t_(least)), wait)

    or as soon as all have answered. Of an even number the median is the larger of the middle two:
    among ``least >= 2f + 3`` replies at least two honest ones came by then, so that f nodes which
    answer at once cannot do away with the grace.

    Parameters
    ----------
    least : int
        Replies, at least as many as the rule needs at the declared f. Errors and replies that
        would be refused do not count.
    grace : float (default: 0.5)
    wait : float (default: 5.0)
        Seconds.

    Raises
    ------
    ValueError
        If least is no integer >= 1, or grace or wait no finite number >= 0.
    """

    least: int
    grace: float = GRACE
    wait: float = WAIT

    def __post_init__(self) -> None:
        whole_number("least", self.least, 1)
        number("grace", self.grace, least=0.0)
        number("wait", self.wait, least=0.0)

    def closes(self, arrivals: Iterable[float]) -> float:
        """Return when the round closes, in seconds since it was asked.

        Parameters
        ----------
        arrivals : iterable of float
            When each sound reply came, in any order.

        Returns
        -------
        float
            math.inf while they are too few. Later replies change nothing of it.
        """
        first = sorted(arrivals)[: self.least]
        if len(first) < self.least:
            return math.inf
        return max(first[-1] + self.grace * median_high(first), self.wait)

    def __str__(self) -> str:
        return (
            f"{self.least} replies, and {self.grace:g} times their median arrival more, "
            f"not before {self.wait:g} s"
        )


def as_quorum(quorum: Quorum | int | None) -> Quorum | None:
    """Return a quorum that may be written as its number of replies.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it is a number < 1.
    """
    if quorum is None or isinstance(quorum, Quorum):
        return quorum
    if isinstance(quorum, int) and not isinstance(quorum, bool):
        return Quorum(whole_number("quorum", quorum, 1))
    raise TypeError(f"quorum is {quorum!r}, expected a number of replies, or Quorum(least=...)")
