"""What a person sees of a real run: a table of the nodes and one of the latest rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flwr_krum.boundary.replies import ClientId
from flwr_krum.fates import fate_in_full
from flwr_krum.report import RoundReport
from simulations.run.history import RoundRecord

ROUNDS_SHOWN = 8

RECEIVED, ANSWERED = "Receiving: ", "Sent successfully"
"""What a SuperNode logs when it gets a message, and when its reply is on the SuperLink."""


@dataclass(frozen=True)
class NodeState:
    """A node now.

    ``name`` is the client id in the reports, ``process`` what became of its process, ``activity``
    what it does.
    """

    name: ClientId
    role: str
    process: str
    activity: str


@dataclass(frozen=True)
class Federated:
    """A run now: its status, its nodes, its rounds so far."""

    status: str
    rounds: int
    nodes: Sequence[NodeState]
    reports: Sequence[RoundReport]
    history: Sequence[RoundRecord]


def activity(log: str) -> str:
    """Return what a SuperNode does, by the last that its log says about messages."""
    received, answered = log.rfind(RECEIVED), log.rfind(ANSWERED)
    if received < 0:
        return "waiting"
    return "training" if received > answered else "answered"


def losses(reports: Sequence[RoundReport]) -> list[str]:
    """Return a line for each node whose reply was missing, with how often and why."""
    failed = Counter(name for report in reports for name in report.failed)
    silent = Counter(name for report in reports for name in report.silent)
    late = Counter(name for report in reports for name in report.late)
    reasons = {name: why for report in reports for name, why in report.failed.items()}
    lines = []
    for name in dict.fromkeys([*failed, *silent, *late]):
        parts = []
        if failed[name]:
            parts.append(f"failed in {_rounds(failed[name])} ({reasons[name]})")
        if silent[name]:
            parts.append(f"silent in {_rounds(silent[name])}")
        if late[name]:
            parts.append(f"late in {_rounds(late[name])}")
        lines.append(f"node {name}: {', '.join(parts)}")
    return lines


def line_of(report: RoundReport, record: RoundRecord) -> str:
    """Return a round in one line, for a log."""
    parts = [f"round {record.round}"]
    if record.accuracy is not None:
        parts.append(f"accuracy {record.accuracy:.4f}")
    parts.append(f"{len(report.received)} accepted")
    troubled = [*(refused.client for refused in report.refused), *report.failed]
    troubled += [*report.silent, *report.late]
    parts += [f"{name} {fate_in_full(report, name)}" for name in troubled]
    if not report.stepped:
        parts.append(f"skipped: {report.note}")
    return ", ".join(parts)


def render(run: Federated) -> RenderableType:
    """Return the view of a run: a title, the nodes, the latest rounds."""
    done = run.history[-1].round if run.history else 0
    measured = [record for record in run.history if record.accuracy is not None]
    title = f"{run.status}, round {done} of {run.rounds}"
    if measured:
        title += f", accuracy {measured[-1].accuracy:.4f} after round {measured[-1].round}"
    return Group(Text(title, style="bold"), _nodes_table(run), Text(), _rounds_table(run))


def _nodes_table(run: Federated) -> Table:
    table = Table("node", "role", "process", "now", "last round", "selected", box=None)
    last = run.reports[-1] if run.reports else None
    selected = Counter(name for report in run.reports for name in report.selected)
    for node in run.nodes:
        table.add_row(
            str(node.name),
            node.role,
            node.process,
            node.activity,
            _short(fate_in_full(last, node.name)) if last else "",
            f"{selected[node.name]} of {len(run.reports)}" if run.reports else "",
        )
    return table


def _rounds_table(run: Federated) -> Table:
    table = Table("round", "accuracy", "accepted", "refused", "lost", "selected", box=None)
    accuracies = {record.round: record.accuracy for record in run.history}
    for report in run.reports[-ROUNDS_SHOWN:]:
        accuracy = accuracies.get(report.server_round)
        table.add_row(
            str(report.server_round),
            "" if accuracy is None else f"{accuracy:.4f}",
            str(len(report.received)),
            _names([refused.client for refused in report.refused]),
            _names([*report.failed, *report.silent, *report.late]),
            _names(report.selected) if report.stepped else f"skipped: {_short(report.note)}",
        )
    return table


def _names(names: Sequence[ClientId]) -> str:
    return " ".join(map(str, names)) or "-"


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
