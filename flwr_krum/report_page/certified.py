"""What the page draws of certificates: of runs, or of several rules on the replies of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr_krum.certified import RoundCertificate
from flwr_krum.report_page.series import VERDICTS
from flwr_krum.report_page.shown import ShownRun
from flwr_krum.report_page.texts import shown


@dataclass(frozen=True)
class CertifiedRounds:
    """The certificates of some rounds, and whose they are.

    Attributes
    ----------
    label : str
    rounds : sequence of int
    certificates : one per round, or None
    """

    label: str
    rounds: Sequence[int]
    certificates: Sequence[RoundCertificate | None]


def of_run(run: ShownRun) -> CertifiedRounds:
    """Return the certificates that a run's own reports hold."""
    reports = run.reports
    return CertifiedRounds(
        run.label, [r.server_round for r in reports], [r.certificate for r in reports]
    )


def certified_series(which: Sequence[CertifiedRounds]) -> list[dict[str, Any]]:
    """Return certificates as JSON values, of those that have any.

    Keys
    ----
    label, colour
        The name, and the place among all, which decides about colour and dash.
    rounds, verdicts, survives, curves, n, f, limits
        One entry per certificate. ``curves`` has kappa for each number of liars, with three
        digits; what is infinite is null.
    """
    return [_series(i, each) for i, each in enumerate(which) if any(each.certificates)]


def _series(colour: int, certified: CertifiedRounds) -> dict[str, Any]:
    known = [
        (t, certificate)
        for t, certificate in zip(certified.rounds, certified.certificates, strict=True)
        if certificate
    ]
    certificates = [certificate for _, certificate in known]
    return {
        "label": shown(certified.label),
        "colour": colour,
        "rounds": [t for t, _ in known],
        "verdicts": "".join(VERDICTS[each.verdict] for each in certificates),
        "survives": [each.survives for each in certificates],
        "curves": [[_digits(kappa) for kappa in each.curve] for each in certificates],
        "n": [each.n for each in certificates],
        "f": [each.f for each in certificates],
        "limits": [_digits(each.limit) for each in certificates],
    }


def _digits(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None
