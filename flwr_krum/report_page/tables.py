"""The tables of the page, as texts that need only be escaped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr_krum.boundary.replies import ClientId
from flwr_krum.guarantee import Verdict
from flwr_krum.report_page.series import (
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
from flwr_krum.report_page.shown import ShownRun
from flwr_krum.report_page.texts import MOST, shown


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


def summary(runs: Sequence[ShownRun]) -> Table:
    """Return one row per run: what it was and what came out."""
    columns = (
        "run", *runs[0].outcome, "replies refused", "rounds without a step",
        "certificate holds", "certificate does not", "guarantee holds",
        "guarantee does not", "guarantee unknown", "rounds", *runs[0].setup,
    )  # fmt: skip
    words = frozenset(i for i, column in enumerate(columns) if column in ("run", "rule", "attack"))
    return Table(columns, tuple(_summary_row(run) for run in runs), words)


def _summary_row(run: ShownRun) -> tuple[str, ...]:
    reports = run.reports
    verdicts = Counter(report.guarantee.verdict for report in reports if report.guarantee)
    certain = Counter(report.certificate.verdict for report in reports if report.certificate)
    return (
        shown(run.label),
        *run.outcome.values(),
        str(sum(len(report.refused) for report in reports)),
        str(sum(not report.stepped for report in reports)),
        *_counted(certain, ("holds", "does not hold")),
        *_counted(verdicts, ("holds", "does not hold", "cannot be known")),
        _rounds(run),
        *(shown(text) for text in run.setup.values()),
    )


def _counted(found: Counter[Verdict], verdicts: Sequence[Verdict]) -> list[str]:
    """Return how many rounds have each verdict; none was asked for is another thing than none."""
    return [str(found[verdict]) if found else "–" for verdict in verdicts]


def _rounds(run: ShownRun) -> str:
    done = len(run.reports)
    return str(done) if run.wanted_rounds in (None, done) else f"{done} of {run.wanted_rounds}"


def refusals(run: ShownRun) -> Table:
    """Return one row per client, kind and reason of a refused, failed or doubted reply."""
    rounds: dict[tuple[ClientId, str, str], list[int]] = defaultdict(list)
    for report in run.reports:
        for client, kind, text in remarks(report):
            rounds[client, kind, shown(text)].append(report.server_round)
    often = sorted(rounds.items(), key=lambda item: -len(item[1]))
    rows = tuple(
        (shown(client), *_role(run, client), kind, text, str(len(t)), str(t[0]), str(t[-1]))
        for (client, kind, text), t in often[:MOST]
    )
    role = _role_heading(run)
    columns = ("client", *role, "what", "reason", "times", "first round", "last round")
    words = frozenset(range(1, 3 + len(role)))
    return Table(columns, rows, words, _byzantine(rows), len(often) - len(rows))


def clients(run: ShownRun) -> Table:
    """Return one row per client: how often it was selected, refused and so on."""
    ids = clients_of(run)
    fates = [Counter(column) for column in zip(*(cells(r, ids) for r in run.reports), strict=True)]
    kinds = (ACCEPTED, REFUSED, FAILED, SILENT, QUARANTINED)
    rows = tuple(
        (
            shown(client),
            *_role(run, client),
            str(fate[SELECTED]),
            f"{fate[SELECTED] / fate.total():.1%}",
            *(str(fate[kind]) for kind in kinds),
        )
        for client, fate in zip(ids, fates, strict=False)  # before round 1 there are no fates
    )
    role = _role_heading(run)
    columns = (
        "client", *role, "selected", "share of rounds", "accepted, not selected", "refused",
        "failed", "silent", "in quarantine",
    )  # fmt: skip
    return Table(columns, rows, frozenset(range(1, 1 + len(role))), _byzantine(rows))


def settings(runs: Sequence[ShownRun]) -> Table:
    """Return one row per setting, those in which the runs differ first and marked."""
    columns = [run.settings for run in runs]
    return _compared(runs, _keys(columns), columns)


def origins(runs: Sequence[ShownRun]) -> Table:
    """Return where the runs come from, such as folder, date, data and versions."""
    columns = [run.sources for run in runs]
    return _compared(runs, _keys(columns), columns, others_first=False)


def _keys(columns: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for column in columns for key in column))


def _compared(
    runs: Sequence[ShownRun],
    keys: Sequence[str],
    columns: Sequence[Mapping[str, object]],
    others_first: bool = True,
) -> Table:
    different = [key for key in keys if len({str(column.get(key)) for column in columns}) > 1]
    ordered = sorted(keys, key=lambda key: key not in different) if others_first else keys
    rows = tuple((shown(key), *(_value(column.get(key)) for column in columns)) for key in ordered)
    marked = frozenset(i for i, key in enumerate(ordered) if key in different)
    words = frozenset(range(1 + len(runs)))
    return Table(("", *(shown(run.label) for run in runs)), rows, words, marked)


def _value(value: object) -> str:
    if value is None or value == "":
        return "–"
    return str(value).lower() if isinstance(value, bool) else shown(value)


def _role_heading(run: ShownRun) -> tuple[str, ...]:
    return () if run.byzantine is None else ("role",)


def _role(run: ShownRun, client: ClientId) -> tuple[str, ...]:
    """Return the text of the column, where there is one."""
    if run.byzantine is None:
        return ()
    return ("Byzantine" if client in run.byzantine else "honest",)


def _byzantine(rows: Iterable[Sequence[str]]) -> frozenset[int]:
    return frozenset(i for i, row in enumerate(rows) if row[1] == "Byzantine")
