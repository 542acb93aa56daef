"""docs/conformance.md, made from what was compared."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.conformance.compare import (
    TOLERANCE,
    Deviation,
    Line,
    Solve,
    Tally,
    examined,
    on_models,
    on_updates,
    tally,
)
from benchmarks.conformance.deviations import KNOWN, fed_models
from benchmarks.conformance.ours import ABOUT_THE_MODEL, WRITTEN, inputs, ours
from benchmarks.conformance.peers import Peer
from benchmarks.conformance.samples import SIZES, Sample
from benchmarks.tables import Table
from flwr_krum.rules import MIXINGS, RULES

AGREES, BUT_FOR_TIES, DEVIATES, NONE = "agrees", "agrees but for ties", "deviates", "-"

COLUMNS = ("library", "version", "worked examples", "random", "largest difference", "ties", "")


@dataclass(frozen=True)
class Section:
    """A rule or mixing beside every library that has it.

    Attributes
    ----------
    name : str
    worked : Tally
        This package's own on the worked examples.
    lines : tuple of Line
    """

    name: str
    worked: Tally
    lines: tuple[Line, ...]


def sections(
    present: Mapping[str, Peer],
    random: Sequence[Sample],
    tied: Sequence[Sample],
    tell: Callable[[str], object],
) -> Iterator[Section]:
    """Compare every rule and mixing with every library that has it."""
    for name in (*RULES, *MIXINGS):
        given = inputs(name, random, tied)
        lines = []
        for peer in present.values():
            for label, solve, deviations in _ways(name, peer):
                tell(f"{name}: {label}")
                lines.append(examined(label, peer.version, solve, given, deviations))
        yield Section(name, tally(ours(name), given.worked), tuple(lines))


def _ways(rule: str, peer: Peer) -> Iterator[tuple[str, Solve, Sequence[Deviation]]]:
    """Yield how a library's rule may be called: its label, what it is, and what is known of it."""
    if rule in peer.runs:
        yield peer.name, on_updates(peer.runs[rule]), KNOWN.get((rule, peer.name), ())
    for (name, how), run in peer.otherwise.items():
        if name == rule:
            known = KNOWN.get((f"{rule}, {how}", peer.name), ())
            yield f"{peer.name}, {how}", on_updates(run), known
    if rule in ABOUT_THE_MODEL and rule in peer.runs:
        yield f"{peer.name}, fed models", on_models(peer.runs[rule]), [fed_models(rule)]


def verdict(line: Line) -> str:
    """Return in a word or two whether a library agrees."""
    if line.deviates:
        return DEVIATES
    return AGREES if line.tied.agrees else BUT_FOR_TIES


def explanation(line: Line) -> str:
    """Return why a library deviates, as far as a variant has shown it; empty if it does not."""
    parts = [_raised(line), _cause(line), _draws(line)]
    return " ".join(part for part in parts if part)


def _raised(line: Line) -> str:
    tallies = [each for each in (line.worked, line.random, line.tied) if each.raised]
    if not tallies:
        return ""
    return f"Raises on {sum(each.raised for each in tallies)} inputs (`{tallies[0].error}`)."


def _cause(line: Line) -> str:
    if verdict(line) == AGREES:
        return ""
    cause = line.cause
    if cause is None:
        return "Why was not established."
    shown = f"on {_count(cause.random)} random inputs and {_count(cause.tied)} with ties"
    text = f"{cause.text[0].upper()}{cause.text[1:]}."
    if line.is_explained:
        return f"{text} A rule that does just this agrees with it {shown}."
    return f"Not established. Closest: {text} A rule that does this agrees with it {shown} only."


def _draws(line: Line) -> str:
    if line.itself is None or line.itself.agrees:
        return ""
    return f"Under another seed it agrees with itself on {_count(line.itself)} random inputs."


def _count(each: Tally) -> str:
    return f"{each.agreeing} of {each.inputs}"


def table(section: Section) -> Table:
    """Return a rule's table, its definition and every explanation below."""
    own = ("this package", "", _examples(section.worked), NONE, NONE, NONE, "")
    rows = [own, *(_row(line) for line in section.lines)]
    why = [f"- {line.peer}: {text}" for line in section.lines if (text := explanation(line))]
    note = "\n\n".join(filter(None, [_definition(section.name), "\n".join(why)]))
    return Table(section.name, COLUMNS, tuple(rows), note)


def _row(line: Line) -> tuple[str, ...]:
    return (
        line.peer,
        line.version,
        _examples(line.worked),
        _count(line.random),
        f"{line.random.largest:.1e}",
        _count(line.tied),
        verdict(line),
    )


def _examples(each: Tally) -> str:
    return _count(each) if each.inputs else NONE


def _definition(name: str) -> str:
    """Return how the definition reads in the code, and where it is from."""
    kind = {**RULES, **MIXINGS}[name]
    first = (inspect.getdoc(kind) or "").split("\n\n")[0]
    source = re.search(
        r"^Sources?: .*?(?=\n\n|\Z)",
        inspect.getdoc(sys.modules[kind.__module__]) or "",
        re.S | re.M,
    )
    compared = f"Compared: `{WRITTEN[name]}`." if name in WRITTEN else ""
    parts = [f"Definition: {first}", compared, source[0] if source else ""]
    return " ".join(part.replace("``", "`").replace("\n", " ") for part in parts if part)


def overview(found: Sequence[Section], present: Mapping[str, Peer]) -> Table:
    """Return one word for every rule and library."""
    rows = [
        (section.name, *(_word(section, name) for name in present))
        for section in found
        if section.lines
    ]
    return Table("All at a glance", ("", *present), tuple(rows))


def _word(section: Section, peer: str) -> str:
    return next((verdict(line) for line in section.lines if line.peer == peer), NONE)


def page(found: Sequence[Section], present: Mapping[str, Peer], absent: Mapping[str, str]) -> str:
    """Return the whole page as Markdown."""
    alone = [section for section in found if not section.lines]
    together = [section for section in found if section.lines]
    sizes = ", ".join(str(size) for size in SIZES)
    parts = [
        "# Conformance: the same rules elsewhere\n",
        "`make conformance` writes this page: every rule and mixing beside the libraries that have",
        "it, on worked examples with known results and on random inputs. (n, f, d) of these are",
        f"{sizes}; a rule that bears fewer than f gets as many as it bears. *Ties* are inputs of",
        "small whole numbers in which two clients repeat two others; they count by themselves.\n",
        f"Two results agree up to {TOLERANCE:g} of the largest coordinate of an update: for rules",
        "that select, the same vectors are selected. Every library gets float64 updates",
        "(what a client adds to the global model), and the global model is added to what it",
        "returns; *fed models* is what comes of giving it models instead. ByzFL computes in",
        "float32 on torch's tensors. Each generator that is drawn from is seeded alike.\n",
        "Why a library deviates is said only where a rule was written that deviates in just that",
        "way, and agrees with the library on every random input. What stands below a table as the",
        "definition is the docstring of this package's rule. Sections and definitions of papers",
        "other than that of Blanchard et al. are quoted from memory: not checked.\n",
        overview(found, present).markdown(),
        *(table(section).markdown() for section in together),
        "## What no library here has\n",
        *(table(section).markdown() for section in alone),
        "## Did not take part\n",
        *(f"- {name}: {why}" for name, why in absent.items()),
        *(f"- {name}: {why}" for name, why in LEFT_OUT.items()),
        "",
    ]
    return "\n".join(parts)


LEFT_OUT = {
    "acfa-flower 0.2.0": "its package aggregates nothing without a kernel that it does not hold",
    "fedlib 0.0.12345": "its package holds no aggregator, and cannot be imported by its name",
    "Blades 0.1.1234": (
        "its package holds attacks and no aggregator: it imports them from a `fllib` that it does "
        "not name among its requirements"
    ),
    "ByzantineMomentum, AggregaThor, FL-Byzantine-Library, FLPoison, velocity-fl": (
        "not compared here: no package of theirs was installed"
    ),
}
"""Libraries that were looked at by hand, and why they are not compared."""
