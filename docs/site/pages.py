"""What the site has that the pages do not: their order, and a page for each rule.

The pages are plain Markdown that reads well in a repository, too. The contents of the site are the
lists of ``index.md``; the rules' pages are made anew from the registry at each build, into
``docs/rules``, that of the examples from their own list, into ``docs/examples``; neither is kept.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr_krum.certificate import limit_of
from flwr_krum.rules import MIXINGS, RULES
from simulations.show.rules import page_of
from simulations.studies.worst_kappa import Unbounded
from simulations.studies.worst_records import FOLDER, LEFT_OUT, Record, kept_in

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
N, F = 20, 6
"""Of the worst inputs that a rule's page tells of."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Take part in a build."""
    app.add_config_value("repository", "", "env", str, "The address of the repository.")
    app.connect("builder-inited", write_rules)
    app.connect("builder-inited", write_examples)
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True}


def write_rules(app: Sphinx) -> None:
    """Write the page of each rule and mixing."""
    records = {record.rule: record for record in kept_in(ROOT / FOLDER / f"{N}-{F}.json")}
    folder = Path(app.srcdir) / "rules"
    folder.mkdir(exist_ok=True)
    for name in [*RULES, *MIXINGS]:
        (folder / f"{name}.md").write_text(page_of(name, fails(name, records)), encoding="utf-8")


def write_examples(app: Sphinx) -> None:
    """Write the page of the examples, whose links are downloads."""
    text = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    folder = Path(app.srcdir) / "examples"
    folder.mkdir(exist_ok=True)
    text = re.sub(r"\]\((?=[\w-]+\.(py|ipynb)\))", "](path:../../examples/", text)
    (folder / "README.md").write_text(text, encoding="utf-8")


def fails(name: str, records: dict[str, Record]) -> str:
    """Say how far a search brought a rule from the mean of the honest, or why there was none."""
    if name not in records:
        why = LEFT_OUT.get(name, "it stands before a rule, whose page says more")
        return f"not searched: {why}"
    record = records[name]
    setting = f"{record.f} liars of {record.n}"
    if isinstance(record.worst, Unbounded):
        found = f"without a bound: with {setting} a search brought kappa beyond every number"
    else:
        limit = limit_of(record.n, record.f)
        found = f"with {setting} a search brought kappa to {record} (certificates end at {limit:g})"
    return f"{found}, [the worst replies](../worst-kappa.md)"


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Add what a reader of the site finds beside a page: the pages that it leads to."""
    if "/" not in name:
        source[0] = outside(source[0], app.config.repository)
    if name == "index":
        for title, body in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", source[0], re.M | re.S):
            names = re.findall(r"^- \[.*?\]\((.+?)\.md\)", body, re.M)
            source[0] += contents(names, title)
    elif name == "rules":
        names = [*RULES, *MIXINGS]
        source[0] = re.sub(
            rf"^\| ({'|'.join(names)}) \|", r"| [\1](rules/\1.md) |", source[0], flags=re.M
        )
        source[0] += contents([f"rules/{name}" for name in names])
    elif name == "attacks/README":
        source[0] += contents(re.findall(r"^- \[.*?\]\((.+?)\.md\)", source[0], re.M))


def outside(text: str, repository: str) -> str:
    """Return a page whose links out of this folder lead to the repository, or to the files.

    Examples are always files to be downloaded, and their list is a page of the site.
    """
    text = text.replace("](../examples/README.md)", "](examples/README.md)")
    text = re.sub(r"\]\(\.\./(?=examples/[\w.-]+\))", "](path:../", text)
    place = f"{repository.rstrip('/')}/blob/HEAD/" if repository else "path:../"
    return re.sub(r"\]\(\.\./(?=[\w/.-]+\))", f"]({place}", text)


def contents(names: list[str], title: str = "") -> str:
    """Return a hidden table of contents."""
    caption = [f":caption: {title}"] * bool(title)
    return "\n".join(["", "", "```{toctree}", ":hidden:", *caption, "", *names, "```", ""])
