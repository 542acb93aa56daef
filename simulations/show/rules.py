"""What every rule and mixing says of itself, as a table for the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from flwr_krum.rules import MIXINGS, RULES, Mixing, Rule
from simulations.show.docstrings import explanation, first_sentence, section

PAGE = Path("docs/rules.md")

COLUMNS = ("name", "needs", "from", "breakdown", "kappa", "cost", "maps")

MAPS = "P permutation of the clients, T translation, S scaling, R rotation, N negation"
"""What the letters of the last column stand for."""

ABOUT = """# What each rule says of itself

Made by `python -m simulations rules --write`; [a rule of one's own](own-parts.md#a-rule) is one
class.

- *needs*: what n must be for f liars, and where that comes from. A round with fewer replies is
  infeasible.
- *breakdown*: the share of liars among many clients up to which the result stays within a bound.
- *kappa*: the coefficient of (f, kappa)-robustness, `||F - mean_S||^2 <= kappa 1/|S| sum_{i in S}
  ||V_i - mean_S||^2` for every S of n - f clients. *Not checked*: the constant is remembered, and
  was not read in the paper; it is no theorem here.
- *cost*: for n updates of d numbers, as computed here.
- *maps*: P, a permutation of the clients changes nothing; T translation, S scaling by a positive
  number, R rotation and N negation of all updates do the same to the result. The tests hold each
  rule to have those that are named, and to lack the others.

"""


def rows(kinds: Mapping[str, type[Rule] | type[Mixing]]) -> Iterator[tuple[str, ...]]:
    """Yield a row per name, in the order of the names."""
    for name, rule in kinds.items():
        facts = rule.facts
        yield (
            name,
            rule().requirement,
            facts.source,
            facts.breakdown,
            str(facts.kappa),
            facts.cost,
            " ".join(kind[0].upper() for kind in facts.invariances),
        )


def objects() -> list[dict[str, str]]:
    """Return the rows of all rules, then of all mixings, for programs."""
    return [
        {"kind": kind, **dict(zip(COLUMNS, row, strict=True))}
        for kind, kinds in (("rule", RULES), ("mixing", MIXINGS))
        for row in rows(kinds)
    ]


def markdown_page() -> str:
    """Return the page docs/rules.md."""
    return (
        f"{ABOUT}## Rules\n\n{_markdown(RULES)}\n## Mixings\n\n"
        "A mixing stands before a rule, as in `nnm | trimmed-mean`, and hands it other rows.\n\n"
        f"{_markdown(MIXINGS)}"
    )


def page_of(name: str, fails: str) -> str:
    """Return the page of one rule or mixing.

    Parameters
    ----------
    name : str
        As `RULES` or `MIXINGS` has it.
    fails : str
        What is known of its failures beside what it says of itself; may be empty.
    """
    kind = RULES[name] if name in RULES else MIXINGS[name]
    facts = kind.facts
    said = {
        "Needs": f"{kind().requirement} ({facts.source})",
        "Coefficient": str(facts.kappa),
        "Breakdown": f"{facts.breakdown} of many clients",
        "Fails": fails,
        "Cost": facts.cost,
        "Follows": ", ".join(facts.invariances),
    }
    lines = "".join(f"- **{title}**: {text}\n" for title, text in said.items() if text)
    written = f"{name} | trimmed-mean" if name in MIXINGS else name
    command = f"python -m simulations run -f 6 --attack gaussian --rule '{written}'"
    texts = (command, section(kind, "Parameters"))
    parts = (
        *(f"# {name}", first_sentence(kind), explanation(kind), lines.strip()),
        *(f"```text\n{text}\n```" for text in texts if text),
        "[All rules](../rules.md)\n",
    )
    return "\n\n".join(part for part in parts if part)


def _markdown(kinds: Mapping[str, type[Rule] | type[Mixing]]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows(kinds)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
