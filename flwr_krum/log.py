"""What a round did, in Flower's log."""

from __future__ import annotations

from logging import INFO, WARNING

from flwr.common.logger import FLOWER_LOGGER, log

from flwr_krum.report import RoundReport


def announce(report: RoundReport) -> None:
    """Log a report's lines, as a warning if an operator should look at the round."""
    level = WARNING if report.is_remarkable() else INFO
    if FLOWER_LOGGER.isEnabledFor(level):  # the lines are not even made for nobody
        for line in report.lines():
            log(level, line)
