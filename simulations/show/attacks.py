"""What every attack says of itself: a table for the terminal, and a page for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from flwr_krum.attacks import ATTACKS, WRAPPERS, Attack
from flwr_krum.attacks.attack import MEANINGS, AttackFacts, Knowledge
from flwr_krum.attacks.mod import lacking
from simulations.show.docstrings import first_sentence, section

FOLDER = Path("docs/attacks")
INDEX = "README.md"

COLUMNS = ("name", "sends", "knows", "breaks", "stood by")

KNOWS: dict[Knowledge, str] = {
    "none": "nobody's update",
    "own": "its own honest update",
    "colluding": "the honest updates of all f attackers",
    "all": "every honest client's update",
}
"""Whose honest updates an adversary sees, in words."""

ABOUT = """# The attacks

Made by `python -m simulations attacks --write`. Every one is a real client:
`python -m simulations run --attack "sign-flip(scale=10)" -f 6`. Attacks work on updates u: what a
client sends, less the global model w. H are the h honest updates that the adversary knows, mu their
mean, sigma their deviation per coordinate.

"""


def kinds() -> dict[str, type[Attack]]:
    """Return every attack by name, and what decides when one is at work."""
    return {**ATTACKS, **WRAPPERS}


def sees(kind: type[Attack]) -> str:
    """Return what an adversary must see for an attack with its default parameters, in words."""
    if kind in WRAPPERS.values():
        return "what the attack behind it needs"
    attack = kind()
    beyond = [MEANINGS[need] for need in sorted(attack.needs) if need != "own"]
    known = KNOWS[attack.knowledge]
    if "own" in attack.needs and attack.knowledge != "own":
        known = "its own honest update" if attack.knowledge == "none" else f"{known} and its own"
    if attack.changes_data:
        known = "its own data"
    return ", ".join([known, *beyond])


def rows() -> Iterator[tuple[str, ...]]:
    """Yield a row per name, in the order of the names."""
    for name, kind in kinds().items():
        facts = kind.facts
        yield name, facts.formula, sees(kind), facts.breaks, facts.resists


def objects() -> list[dict[str, str]]:
    """Return the rows for programs."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows()]


def pages() -> dict[str, str]:
    """Return the page of each attack, and the index of all, by file name."""
    listed = [
        f"- [`{name}`]({name}.md): {first_sentence(kind)}\n" for name, kind in kinds().items()
    ]
    found = {INDEX: ABOUT + "".join(listed)}
    for name, kind in kinds().items():
        found[f"{name}.md"] = _page(name, kind)
    return found


def write(folder: Path = FOLDER) -> None:
    """Write all pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


def _page(name: str, kind: type[Attack]) -> str:
    facts: AttackFacts = kind.facts
    said = {
        "Sends": f"`{facts.formula}`",
        "Source": facts.source,
        "Must see": sees(kind),
        "Breaks": facts.breaks,
        "Stood by": facts.resists,
        "Elsewhere": facts.differs,
        "In your own app": _as_mod(name, kind),
    }
    lines = "".join(f"- **{title}**: {text}\n" for title, text in said.items() if text)
    behind = " | sign-flip" if kind in WRAPPERS.values() else ""
    return (
        f"# {name}\n\n{first_sentence(kind)}\n\n{lines}\n"
        f"```text\npython -m simulations run -f 6 --attack '{_written(name, kind)}{behind}'\n```\n"
        f"\n{_parameters(kind)}\n[All attacks]({INDEX})\n"
    )


def _as_mod(name: str, kind: type[Attack]) -> str:
    """Say whether any ClientApp can send the attack, or what that would take."""
    if kind in WRAPPERS.values():
        return "as the attack behind it"
    missing = lacking(kind())
    if missing:
        return f"not as a mod, which would need {' and '.join(missing)}"
    return f'`ClientApp(mods=[attack_mod("{name}")])` of `flwr_krum.attacks`'


def _written(name: str, kind: type[Attack]) -> str:
    """Return the attack with all its parameters at their defaults."""
    listed = [
        f"{each.name}={each.default}"
        for each in fields(kind)
        if each.name != "attack" and each.default is not None
    ]
    return f"{name}({', '.join(listed)})" if listed else name


def _parameters(kind: type[Attack]) -> str:
    """Return the class's own words on its parameters, as text."""
    parameters = section(kind, "Parameters")
    return f"```text\n{parameters}\n```\n" if parameters else ""
