"""What became of each client in a round: one word for each, and in full what a report says."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from flwr_krum.boundary.replies import ClientId
from flwr_krum.report import RoundReport

Fate: TypeAlias = Literal["selected", "passed over", "refused", "failed", "silent", "quarantined"]
"""``passed over`` was accepted, and the aggregate is not made of it."""

FATES: tuple[Fate, ...] = get_args(Fate)


def fates(report: RoundReport) -> dict[ClientId, Fate]:
    """Return the fate of every client that a report names; the worst where it has several."""
    found: dict[ClientId, Fate] = dict.fromkeys(report.received, "passed over")
    found.update(dict.fromkeys(report.selected, "selected"))
    found.update(dict.fromkeys([*report.silent, *report.late], "silent"))
    found.update(dict.fromkeys(report.quarantined, "quarantined"))
    found.update(dict.fromkeys(report.failed, "failed"))
    found.update({refused.client: "refused" for refused in report.refused})
    return found


def fate_in_full(report: RoundReport, client: ClientId) -> str:
    """Return the fate of one client with what the report says of it: why, late, or doubted."""
    fate = fates(report).get(client)
    if fate is None:
        return "not asked"
    if fate == "refused":
        reasons = {refused.client: refused.reason for refused in report.refused}
        return f"refused: {reasons[client]}"
    if fate == "failed":
        return f"failed: {report.failed[client]}"
    if fate == "silent":
        return "silent (late)" if client in report.late else "silent"
    return f"{fate}, doubted: {report.doubted[client]}" if client in report.doubted else fate
