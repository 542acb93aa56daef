"""What is said of rounds in Flower's log: each as it ends, and all of them at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from logging import INFO, WARNING

from flwr.common.logger import FLOWER_LOGGER, log

from flwr_krum.report import RoundReport


def announce(report: RoundReport) -> None:
    """Log a report's lines, as a warning if an operator should look at the round."""
    level = WARNING if report.is_remarkable() else INFO
    if FLOWER_LOGGER.isEnabledFor(level):  # the lines are not even made for nobody
        for line in tree(report.lines()):
            log(level, line)


def warn(text: str) -> None:
    """Log a sentence as a warning."""
    log(WARNING, "%s", text)


def conclusion(reports: Iterable[RoundReport], batch_size: int | None = None) -> list[str]:
    """Return what a run's rounds come to: steps, refusals, certificate and guarantee over time.

    Parameters
    ----------
    reports : iterable of RoundReport
    batch_size : int, optional
        The clients' mini-batch, for the advice.
    """
    rounds = list(reports)
    refusals = Counter(refused.client for report in rounds for refused in report.refused)
    lines = [f"{sum(report.stepped for report in rounds)} of {len(rounds)} rounds moved the model"]
    if refusals:
        worst = ", ".join(f"{client} ({count})" for client, count in refusals.most_common(10))
        lines.append(f"refused most: {worst}")
    certificates = [report.certificate for report in rounds if report.certificate]
    certified = Counter(certificate.verdict for certificate in certificates)
    if uncertified := sum(report.is_kept_uncertified for report in rounds):
        lines.append(f"kept for want of a certificate that holds: the model in {uncertified}")
    if certified:
        lines.append("certificate: " + ", ".join(f"{v} in {k}" for v, k in certified.items()))
        middle = sorted(certificates, key=lambda certificate: certificate.kappa)
        lines.append(f"the median round: {middle[len(middle) // 2].sentence()}")
    known = [report.guarantee for report in rounds if report.guarantee]
    verdicts = Counter(guarantee.verdict for guarantee in known)
    if known:
        lines.append("guarantee: " + ", ".join(f"{v} in {k}" for v, k in verdicts.items()))
    measured = [guarantee for guarantee in known if guarantee.needed is not None]
    if measured:
        median = sorted(measured, key=lambda guarantee: guarantee.needed or 0.0)[len(measured) // 2]
        lines.append(f"the median round: {median.line()}")
        if median.advice(batch_size):
            lines.append(f"what it would take: {median.advice(batch_size)}")
    return lines


def tree(lines: Sequence[str]) -> list[str]:
    """Return the lines as branches in Flower's log style."""
    return [f"\t{'└──' if i == len(lines) - 1 else '├──'} {line}" for i, line in enumerate(lines)]
