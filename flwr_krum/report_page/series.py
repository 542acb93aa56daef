"""The numbers behind the pictures: one compact JSON value per run, which the page's script draws.

A round's clients are one text, one letter each; scores keep four digits; texts stand in tables and
are referred to by number. 500 rounds of 100 clients take about half a megabyte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flwr_krum.boundary.replies import ClientId, client_order
from flwr_krum.fates import Fate, fates
from flwr_krum.report import RoundReport
from flwr_krum.report_page.shown import ShownRun
from flwr_krum.report_page.texts import TextTable, shown

NOT_ASKED, ACCEPTED, SELECTED, REFUSED, FAILED, SILENT, QUARANTINED = ".ASRFMQ"
"""What became of a client in a round; the script and the legend use the same letters."""

LETTERS: Mapping[Fate, str] = {
    "passed over": ACCEPTED,
    "selected": SELECTED,
    "refused": REFUSED,
    "failed": FAILED,
    "silent": SILENT,
    "quarantined": QUARANTINED,
}

VERDICTS = {"holds": "h", "does not hold": "n", "cannot be known": "u"}


def series(run: ShownRun) -> dict[str, Any]:
    """Return a run as JSON values.

    Keys
    ----
    label, clients, byzantine
        Names; which of the clients attack, by index, null where nobody knows.
    wanted
        How many rounds it is to have, null where nobody knows.
    evaluated, accuracy, loss
        One entry per evaluation; what was not a number is null.
    rounds, cells, scores, f, selected, rules, certificates, verdicts, sines,
    stepped
        One entry per round. ``cells`` has a letter per client. ``scores`` has a number, null or,
        for a score beyond every number, the text "∞" per client; it is null where the rule has
        none.
    remarks, notes, reasons
        By index of the round, where there is something to say: [client, text] pairs of refusals,
        failures and doubts; what was out of the ordinary; why the guarantee cannot be known.
    texts, rule_names, note_texts
        What the numbers of texts stand for.
    """
    clients = clients_of(run)
    index = {client: i for i, client in enumerate(clients)}
    texts, rules, notes = TextTable(), TextTable(), TextTable()
    evaluations, byzantine = run.evaluations, run.byzantine
    reports, guarantees = run.reports, [report.guarantee for report in run.reports]
    certificates = [report.certificate for report in reports]
    return {
        "label": shown(run.label),
        "clients": [shown(client) for client in clients],
        "byzantine": (
            None if byzantine is None else [i for c, i in index.items() if c in byzantine]
        ),
        "wanted": run.wanted_rounds,
        "evaluated": [record.round for record in evaluations],
        "accuracy": [_digits(record.accuracy) for record in evaluations],
        "loss": [_digits(record.loss) for record in evaluations],
        "rounds": [report.server_round for report in reports],
        "cells": [cells(report, clients) for report in reports],
        "scores": [_scores(report, clients) for report in reports],
        "f": [report.byzantine for report in reports],
        "rules": [rules.number(report.rule) for report in reports],
        "stepped": [int(report.stepped) for report in reports],
        "certificates": "".join(VERDICTS[c.verdict] if c else "-" for c in certificates),
        "verdicts": "".join(VERDICTS[g.verdict] if g else "-" for g in guarantees),
        "sines": [_digits(g.sin_alpha) if g else None for g in guarantees],
        "reasons": _sparse(notes.number(g.reason) if g and g.reason else None for g in guarantees),
        "notes": _sparse(notes.number(r.note) if r.note else None for r in reports),
        "remarks": _sparse(_remarks(report, index, texts) for report in reports),
        "texts": texts.texts,
        "rule_names": rules.texts,
        "note_texts": notes.texts,
    }


def clients_of(run: ShownRun) -> list[ClientId]:
    """Return the clients of a run in the order of their ids: those known before, and who came."""
    known: set[ClientId] = set(run.clients)
    for report in run.reports:
        known.update(report.received, report.silent, report.late, report.quarantined)
        known.update(refused.client for refused in report.refused)
    return sorted(known, key=client_order)


def cells(report: RoundReport, clients: Sequence[ClientId]) -> str:
    """Return a round as one letter per client."""
    found = fates(report)
    return "".join(LETTERS[found[c]] if c in found else NOT_ASKED for c in clients)


def remarks(report: RoundReport) -> Iterable[tuple[ClientId, str, str]]:
    """Yield (client, kind, text) of what was wrong with a round's replies."""
    yield from ((refused.client, "refused", refused.reason) for refused in report.refused)
    yield from ((client, "late", "a quorum closed the round without it") for client in report.late)
    yield from ((client, "failed", text) for client, text in report.failed.items())
    yield from ((client, "metrics dropped", text) for client, text in report.doubted.items())


def _remarks(
    report: RoundReport, index: Mapping[ClientId, int], texts: TextTable
) -> list[list[int]] | None:
    said = [
        [index[client], texts.number(f"{kind}: {text}")]
        for client, kind, text in remarks(report)
        if client in index
    ]
    return said or None


def _scores(report: RoundReport, clients: Sequence[ClientId]) -> list[float | str | None] | None:
    if not report.scores:
        return None
    return [
        "∞" if math.isinf(score := report.scores.get(client, math.nan)) else _digits(score)
        for client in clients
    ]


def _digits(value: float | None) -> float | None:
    """Return a number with four digits; None for what is none."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _sparse(values: Iterable[Any]) -> dict[int, Any]:
    return {i: value for i, value in enumerate(values) if value is not None}
