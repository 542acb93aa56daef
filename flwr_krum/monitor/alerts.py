"""What an operator wants to be told of at once: when it begins, and not again while it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from flwr_krum.boundary.replies import on_one_line
from flwr_krum.in_force import is_exceeded
from flwr_krum.monitor.tally import MOST_NODES, label_of
from flwr_krum.report import RoundReport

Kind: TypeAlias = Literal["refused in a row", "model kept", "no slack", "f exceeded"]


class Alert(NamedTuple):
    """One thing to be told of, with a sentence that holds no text of a client's making."""

    alert: Kind
    round: int
    text: str
    node: str = ""


class Watch:
    """Looks at one report after the other, and says what has just begun.

    Parameters
    ----------
    refusals : int
        After so many refused replies in a row a node is told of; only an accepted one ends a row.
    """

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self._in_a_row: dict[str, int] = {}
        self._lasting: set[Kind] = set()

    def see(self, report: RoundReport) -> list[Alert]:
        """Return what begins with this round."""
        begun = [Alert("refused in a row", *about) for about in self._rows(report)]
        states = dict(_states(report))
        for kind, text in states.items():
            if kind not in self._lasting:
                said = f"round {report.server_round}: {text}"
                begun.append(Alert(kind, report.server_round, said))
        self._lasting = set(states)
        return begun

    def _rows(self, report: RoundReport) -> Iterator[tuple[int, str, str]]:
        for client in report.received:
            self._in_a_row.pop(label_of(client), None)
        for node in {label_of(refused.client): None for refused in report.refused}:
            count = self._in_a_row[node] = self._in_a_row.get(node, 0) + 1
            if count == self._refusals:
                said = (
                    f"round {report.server_round}: node {node} was refused {count} times in a row; "
                    "the journal says why"
                )
                yield report.server_round, said, node
        while len(self._in_a_row) > MOST_NODES:  # made-up names must not fill the memory
            del self._in_a_row[next(iter(self._in_a_row))]


def _states(report: RoundReport) -> Iterator[tuple[Kind, str]]:
    """Yield what is the case in a round, each with a sentence."""
    if not report.stepped:
        why = f": {on_one_line(report.note)}" if report.note else ""
        yield "model kept", f"the model stays as it was{why}"
    if report.slack == 0:
        said = f"{len(report.received)} replies were accepted and all of them are needed: "
        yield "no slack", said + "one more lost, and the round is infeasible"
    if is_exceeded(report.basis):
        said = f"{len(report.refused)} replies were refused and f is {report.byzantine}: "
        yield "f exceeded", said + "there are more liars than that, or honest nodes fail"
