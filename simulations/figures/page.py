"""The page of figures: a generated block per figure, in between text that stays as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulations.engines.making import Provenance
from simulations.figures.experiment import Experiment
from simulations.figures.facts import Fact
from simulations.figures.statements import Check
from simulations.figures.verdicts import Finding, Verdict
from simulations.show.pages import with_block

SUMMARY = "summary"


@dataclass(frozen=True)
class FigureProvenance(Provenance):
    """How a figure came to be.

    Attributes
    ----------
    band : str
        What line and band are.
    """

    band: str


def figure_block(
    experiment: Experiment,
    verdicts: Sequence[Verdict],
    provenance: FigureProvenance,
    picture: str,
) -> str:
    """Return a figure, its origin and its verdicts as Markdown.

    Parameters
    ----------
    picture : str
        Path of the PNG, as the page links to it; the SVG lies beside.
    """
    stem = picture.removesuffix(".png")
    lines = [
        f"### {experiment.title}",
        "",
        f"*{experiment.source[0].upper()}{experiment.source[1:]}.* {experiment.caption.strip()}",
        "",
        f"![{experiment.title}]({picture})",
        "",
        f"`{provenance.command}` ([SVG]({stem}.svg), [raw numbers]({stem}.csv))",
        "",
        f"{provenance.protocol}. Line and band: {provenance.band}. {provenance.effort}.",
    ]
    for verdict in verdicts:
        lines += [
            "",
            f"**{verdict.statement.id}: {verdict.statement.says}** — {verdict.sentence}.",
            "",
        ]
        lines += ["| check | seeds | mean | 95 % interval | bound | |", "| --- " * 6 + "|"]
        lines += [_finding_row(finding) for finding in verdict.findings]
    return "\n".join(lines) + "\n"


def facts_block(facts: Sequence[Fact]) -> str:
    """Return the exact facts as Markdown."""
    outcome = "holds" if all(fact.holds for fact in facts) else "does not hold"
    lines = [
        "### What the paper fixes exactly",
        "",
        "`python -m simulations figure U1`",
        "",
        f"**U1: The rules' exact relations and constants** — {outcome}.",
        "",
        "| fact | expected | found | |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {fact.says} | {fact.expected} | {fact.found} | "
        f"{'holds' if fact.holds else 'does not hold'} |"
        for fact in facts
    ]
    return "\n".join(lines) + "\n"


def update_page(path: Path, name: str, block: str) -> None:
    """Put a figure's block in its place on the page, and the summary of all blocks at its own.

    A place is a pair of comments, ``<!-- figure 4 -->`` and ``<!-- end of figure 4 -->``. A page or
    a place that is not there yet is made, at the end.
    """
    text = path.read_text() if path.exists() else ""
    text = with_block(text, f"figure {name}", block)
    text = with_block(text, SUMMARY, summary(text))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def summary(text: str) -> str:
    """Return the verdicts that stand in the blocks of a page as one table."""
    found = re.findall(r"^\*\*([\w-]+): (.+?)\*\* — (.+)\.$", text, re.MULTILINE)
    rows = [f"| {id_} | {says} | {outcome} |" for id_, says, outcome in found]
    return "\n".join(["| | claim | verdict |", "| --- | --- | --- |", *rows]) + "\n"


def _finding_row(finding: Finding) -> str:
    check, interval = finding.check, finding.interval
    mean = low = high = ""
    if interval is not None:
        mean, low, high = (
            number(value, check) for value in (interval.mean, interval.low, interval.high)
        )
    reach = f"{low} to {high}" if interval else ""
    note = f" ({finding.note})" if finding.note else ""
    return (
        f"| {check.label} | {finding.seeds} | {mean} | {reach} | {check.bounds} | "
        f"{finding.outcome}{note} |"
    )


def number(value: float, check: Check) -> str:
    """Write a number of a check: an accuracy, a difference, a ratio, or rounds."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if check.ratio:
        return f"{value:.2f}"
    sign = "+" if check.against is not None else ""
    digits = 0 if check.of.window is None else 3
    return f"{value:{sign}.{digits}f}".replace("-", "−")
