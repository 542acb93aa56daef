"""Reports as numbers with names: those that count up over the rounds, and those of the last one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from flwr_krum.boundary.replies import LONGEST_NAME, ClientId, on_one_line
from flwr_krum.fates import FATES, fates
from flwr_krum.report import RoundReport


class Metric(NamedTuple):
    """A kind of number: what it says, and by what it is told apart."""

    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "journal_readable": Metric("gauge", "Whether the journal could be read just now."),
    "journal_damaged_lines": Metric("counter", "Lines of the journal that are no round report."),
    "round": Metric("gauge", "The last round."),
    "round_timestamp_seconds": Metric("gauge", "When it was over, in seconds since 1970."),
    "rounds": Metric("counter", "Rounds, by whether the model moved or was kept.", ("model",)),
    "replies": Metric("counter", "What became of those who were asked.", ("outcome",)),
    "node_rounds": Metric("counter", "Rounds of a node, by what became of it.", ("node", "fate")),
    "nodes": Metric("gauge", "Nodes in the last round, by what became of them.", ("fate",)),
    "byzantine": Metric("gauge", "The f in force."),
    "needed_replies": Metric("gauge", "Replies that the rule needs at this f."),
    "slack_replies": Metric("gauge", "Accepted replies beyond those; negative if too few."),
    "certificate_rounds": Metric("counter", "Rounds by the certificate's verdict.", ("verdict",)),
    "certificate_survives": Metric("gauge", "Liars up to which the certificate holds."),
    "certificate_kappa": Metric("gauge", "The certificate's kappa at f."),
    "certificate_radius": Metric("gauge", "The certificate's radius at f."),
    "guarantee_rounds": Metric("counter", "Rounds by the guarantee's verdict.", ("verdict",)),
    "guarantee_sin_alpha": Metric("gauge", "The guarantee's sin(alpha)."),
    "stage_seconds": Metric("counter", "Own time of the stages of the rounds.", ("stage",)),
    "step_length": Metric("gauge", "How far an optimizer's step went, and the aggregate.", ("of",)),
}
"""Every number there is."""

Numbers: TypeAlias = dict[tuple[str, ...], float]
"""Numbers by metric and the values of its labels."""

MOST_NODES = 1000
"""Nodes with numbers of their own: who may make up names must not fill the memory."""

OTHERS = "(others)"
"""The name under which all further nodes are counted."""


def numbers(report: RoundReport) -> Numbers:
    """Return what a report adds to each counter, and sets each gauge to.

    Raises
    ------
    ValueError, TypeError, OverflowError
        If what the report was read from holds no numbers where there should be some.
    """
    fate_of = fates(report)
    per_fate = Counter(fate_of.values())
    found: Numbers = {
        ("round",): report.server_round,
        ("rounds", "moved" if report.stepped else "kept"): 1,
        ("replies", "accepted"): len(report.received),
        ("replies", "refused"): len(report.refused),
        ("replies", "failed"): len(report.failed),
        ("replies", "silent"): len(report.silent),
        ("byzantine",): report.byzantine,
        **{("nodes", fate): per_fate[fate] for fate in FATES},
        **{("stage_seconds", on_one_line(stage)): float(s) for stage, s in report.seconds.items()},
        **{("step_length", of): float(report.steps[of]) for of in _STEPS if of in report.steps},
    }
    for client, fate in fate_of.items():  # 7 and "7" are told apart by no label
        key = ("node_rounds", label_of(client), fate)
        found[key] = found.get(key, 0) + 1
    if report.time:
        found["round_timestamp_seconds",] = datetime.fromisoformat(report.time).timestamp()
    if report.needed is not None and report.slack is not None:
        found["needed_replies",] = report.needed
        found["slack_replies",] = report.slack
    return found | _verdicts(report)


_STEPS = ("aggregate", "taken")


def _verdicts(report: RoundReport) -> Numbers:
    found: Numbers = {}
    if certificate := report.certificate:
        found["certificate_rounds", on_one_line(certificate.verdict)] = 1
        for name in ("survives", "kappa", "radius"):
            if math.isfinite(value := float(getattr(certificate, name))):
                found[f"certificate_{name}",] = value
    if guarantee := report.guarantee:
        found["guarantee_rounds", on_one_line(guarantee.verdict)] = 1
        if guarantee.sin_alpha is not None:
            found["guarantee_sin_alpha",] = float(guarantee.sin_alpha)
    return found


def label_of(client: ClientId) -> str:
    """Return a client as a label, a log line and an alert name it."""
    return on_one_line(client, LONGEST_NAME)


class Tally:
    """The numbers of all rounds so far."""

    def __init__(self) -> None:
        self._counted: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._last: Numbers = {}
        self._nodes: set[str] = set()

    def add(self, found: Numbers) -> None:
        """Add the numbers of one more round."""
        self._last = {}
        for (metric, *labels), value in found.items():
            if METRICS[metric].kind == "gauge":
                self._last[metric, *labels] = value
            elif metric == "node_rounds":
                self._counted[metric, self._known(labels[0]), labels[1]] += value
            else:
                self._counted[metric, *labels] += value

    def _known(self, node: str) -> str:
        if node not in self._nodes and len(self._nodes) >= MOST_NODES:
            return OTHERS
        self._nodes.add(node)
        return node

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], float]]:
        yield from self._counted.items()
        yield from self._last.items()
