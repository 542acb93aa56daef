"""The tables of the page, as texts that need only be escaped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr_krum.boundary.replies import ClientId
from simulations.report.runs import Run
from simulations.report.series import (
    ACCEPTED,
    FAILED,
    QUARANTINED,
    REFUSED,
    SELECTED,
    SILENT,
    cells,
    clients_of,
    remarks,
)
from simulations.report.texts import MOST, shown
from simulations.run.history import byzantine_share, final_window, window_mean

ELSEWHERE = ("run-dir", "resume")
"""Settings that say where a run lies and not what it is."""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes
    ----------
    columns : headings; the first column names its row
    rows : one text per column
    words : indices of the columns that hold words; the others are numbers and stand to the right
    marked : indices of the rows that deserve a look
    more : int
        Rows that were left out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})
    marked: frozenset[int] = frozenset()
    more: int = 0


def summary(runs: Sequence[Run]) -> Table:
    """Return one row per run: what it was and what came out."""
    columns = (
        "run", "accuracy", "Byzantine selected", "replies refused", "rounds without a step",
        "certificate holds", "certificate does not", "guarantee holds",
        "does not hold", "cannot be known", "rounds", "n", "f", "rule", "attack",
    )  # fmt: skip
    return Table(columns, tuple(_summary_row(run) for run in runs), frozenset({0, 13, 14}))


def _summary_row(run: Run) -> tuple[str, ...]:
    settings, reports = run.config.settings, run.reports
    verdicts = Counter(report.guarantee.verdict for report in reports if report.guarantee)
    certain = Counter(report.certificate.verdict for report in reports if report.certificate)
    share = byzantine_share(run.byzantine, (report.selected for report in reports))
    return (
        shown(run.label),
        _final_accuracy(run),
        "–" if share is None else f"{share:.1%}",
        str(sum(len(report.refused) for report in reports)),
        str(sum(not report.stepped for report in reports)),
        *(str(certain[verdict]) for verdict in ("holds", "does not hold")),
        *(str(verdicts[verdict]) for verdict in ("holds", "does not hold", "cannot be known")),
        _rounds(run),
        str(settings.num_clients),
        str(settings.f),
        run.config.rule,
        settings.attack,
    )


def _rounds(run: Run) -> str:
    done, wanted = len(run.reports), run.config.num_server_rounds
    return str(done) if done == wanted else f"{done} of {wanted}"


def _final_accuracy(run: Run) -> str:
    """Return the mean accuracy over the last fifth of the rounds that are done."""
    try:
        return f"{window_mean(run.history, *final_window(len(run.reports))):.4f}"
    except ValueError:  # nothing was evaluated there: the run is young, or was cut short
        return "–"


def refusals(run: Run) -> Table:
    """Return one row per client, kind and reason of a refused, failed or doubted reply."""
    rounds: dict[tuple[ClientId, str, str], list[int]] = defaultdict(list)
    for report in run.reports:
        for client, kind, text in remarks(report):
            rounds[client, kind, shown(text)].append(report.server_round)
    often = sorted(rounds.items(), key=lambda item: -len(item[1]))
    rows = tuple(
        (shown(client), _role(run, client), kind, text, str(len(t)), str(t[0]), str(t[-1]))
        for (client, kind, text), t in often[:MOST]
    )
    columns = ("client", "role", "what", "reason", "times", "first round", "last round")
    return Table(columns, rows, frozenset({1, 2, 3}), _byzantine(rows), len(often) - len(rows))


def clients(run: Run) -> Table:
    """Return one row per client: how often it was selected, refused and so on."""
    ids = clients_of(run)
    fates = [Counter(column) for column in zip(*(cells(r, ids) for r in run.reports), strict=True)]
    kinds = (ACCEPTED, REFUSED, FAILED, SILENT, QUARANTINED)
    rows = tuple(
        (
            shown(client),
            _role(run, client),
            str(fate[SELECTED]),
            f"{fate[SELECTED] / fate.total():.1%}",
            *(str(fate[kind]) for kind in kinds),
        )
        for client, fate in zip(ids, fates, strict=False)  # before round 1 there are no fates
    )
    columns = (
        "client", "role", "selected", "share of rounds", "accepted, not selected", "refused",
        "failed", "silent", "in quarantine",
    )  # fmt: skip
    return Table(columns, rows, frozenset({1}), _byzantine(rows))


def settings(runs: Sequence[Run]) -> Table:
    """Return one row per setting, those in which the runs differ first and marked."""
    configs = [run.config.to_config() for run in runs]
    keys = [key for key in configs[0] if key not in ELSEWHERE]
    return _compared(runs, keys, configs)


def origins(runs: Sequence[Run]) -> Table:
    """Return where the runs come from: folder, date, data and versions."""
    columns = []
    for run in runs:
        column: dict[str, Any] = {"folder": run.folder}
        if run.origin:
            column |= {"started": run.origin.started, "data": run.origin.data}
            column |= run.origin.versions
        columns.append(column)
    keys = list(dict.fromkeys(key for column in columns for key in column))
    return _compared(runs, keys, columns, others_first=False)


def _compared(
    runs: Sequence[Run],
    keys: Sequence[str],
    columns: Sequence[Mapping[str, Any]],
    others_first: bool = True,
) -> Table:
    different = [key for key in keys if len({str(column.get(key)) for column in columns}) > 1]
    ordered = sorted(keys, key=lambda key: key not in different) if others_first else keys
    rows = tuple((shown(key), *(_value(column.get(key)) for column in columns)) for key in ordered)
    marked = frozenset(i for i, key in enumerate(ordered) if key in different)
    words = frozenset(range(1 + len(runs)))
    return Table(("", *(shown(run.label) for run in runs)), rows, words, marked)


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return str(value).lower() if isinstance(value, bool) else shown(value)


def _role(run: Run, client: ClientId) -> str:
    return "Byzantine" if client in run.byzantine else "honest"


def _byzantine(rows: Iterable[Sequence[str]]) -> frozenset[int]:
    return frozenset(i for i, row in enumerate(rows) if row[1] == "Byzantine")
