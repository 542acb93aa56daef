"""What certificate each rule would have had on the replies of a run's rounds.

The replies are those that came while the run's own rule steered: what a rule would have made of
them, and not where it would have gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from flwr_krum.certificate import Verdict
from flwr_krum.certified import RoundCertificate
from flwr_krum.recorded import RecordedRound
from flwr_krum.rules.written import parse_rule

BY_COORDINATE = "sorts the values of single coordinates, and distances hold none"
"""Why a coordinate-wise rule cannot be judged."""


@dataclass(frozen=True)
class Judged:
    """A rule on a run's rounds.

    Attributes
    ----------
    rule : str
        As it is written.
    certificates : tuple of RoundCertificate or None
        One per round; None where the rule could not run. Empty where it could in none.
    reason : str
        Why it could not.
    """

    rule: str
    certificates: tuple[RoundCertificate | None, ...] = ()
    reason: str = ""

    @property
    def known(self) -> list[RoundCertificate]:
        """Those of the rounds in which the rule could run."""
        return [certificate for certificate in self.certificates if certificate]

    def share(self, verdict: Verdict) -> float:
        """Return the share of a verdict in these rounds."""
        return sum(each.verdict == verdict for each in self.known) / len(self.known)

    @property
    def kappa(self) -> float:
        """The median of kappa at f in these rounds."""
        return median(certificate.kappa for certificate in self.known)

    @property
    def survives(self) -> int:
        """The number of liars up to which each of these rounds holds; -1 for none."""
        return min(certificate.survives for certificate in self.known)


def judged(text: str, records: Iterable[RecordedRound], f: int, seed: int) -> Judged:
    """Return a rule's certificates in recorded rounds, with the f in force in each.

    Parameters
    ----------
    text : str
        The rule as it is written.
    records : iterable of RecordedRound
    f : int
        Liars that the rule is declared with.
    seed : int
        For a rule that draws.

    Raises
    ------
    ValueError
        If the text is none of a rule.
    """
    rule = parse_rule(text, f=f, seed=seed)
    if rule.is_coordinate_wise:
        return Judged(text, reason=BY_COORDINATE)
    found: list[RoundCertificate | None] = []
    reason = "no round is recorded"
    for record in records:
        n = record.points.n
        try:
            fitted = rule.fitted(n, record.f)
            fitted.check(n)
            found.append(record.certified(fitted.choose(record.geometry, record.server_round)))
        except ValueError as error:  # too few replies, or it asks for what is not recorded
            reason = str(error)
            found.append(None)
    return Judged(text, tuple(found)) if any(found) else Judged(text, reason=reason)


def as_it_was(rule: str, records: Sequence[RecordedRound]) -> Judged:
    """Return the certificates of the aggregates that the run itself had, before any rounding."""
    found = tuple(record.certified_as_it_was() for record in records)
    return Judged(rule, found, "" if found else "no round is recorded")


def why_not(rules: Iterable[Judged]) -> list[str]:
    """Return a sentence for each reason why rules could not be judged, with their names."""
    reasons: dict[str, list[str]] = {}
    for each in rules:
        if not each.known:
            reasons.setdefault(each.reason, []).append(each.rule)
    return [f"not judged: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
