"""The pages hang together: what they link exists, and the Python that they show runs."""

import doctest
import re
from pathlib import PurePosixPath

import pytest

from flwr_krum.journal import read_journal
from flwr_krum.serverapp.strategy import MultiKrum
from simulations.engines.engines import quiet_flower, run
from simulations.run.config import RunConfig
from tests.documents import PAGES, ROOT, anchors, block, blocks, links, read

READERS = {
    "docs/replies.md": {"MultiKrum": MultiKrum},
    "docs/server-model.md": {"train": lambda model, examples: model, "clean_examples": ()},
}
"""What a page takes for granted that its reader has."""


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_that_exist(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = ROOT / PurePosixPath(page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            there = target.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(there), link


def test_a_link_to_a_heading_that_is_not_there_would_be_found():
    assert "what-a-distance-sees" in anchors("docs/replies.md")
    assert "what-a-distance-hears" not in anchors("docs/replies.md")
    assert "docs/index.md" in links("README.md")
    assert len(links("docs/index.md")) > 30


def test_the_index_lists_every_page_of_the_folder():
    pages = {page.removeprefix("docs/") for page in PAGES if re.match(r"docs/[^/]+$", page)}
    listed = [link for link in links("docs/index.md") if link.endswith(".md")]
    others = {"attacks/README.md", "../examples/README.md"}
    assert sorted(listed) == sorted({*pages, *others} - {"index.md"})


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page, **READERS.get(page, {})}
    for source in blocks(page):
        if source.startswith(">>> "):
            test = doctest.DocTestParser().get_doctest(source, names, page, page, 0)
            assert test.examples
            assert doctest.DocTestRunner().run(test).failed == 0
        else:
            if "read_journal(" in source:
                kept = finished_run(tmp_path) / "journal.jsonl"
                source = re.sub(r'read_journal\(".*?"\)', f"read_journal({str(kept)!r})", source)
            exec(compile(source, page, "exec"), names)


def finished_run(folder):
    """Return the folder of a run of one round, made where it is not there."""
    made = folder / "first"
    if not made.exists():
        config = RunConfig.from_config({"num-server-rounds": 1, "run-dir": str(made)})
        with quiet_flower():
            run(config, "inprocess", lambda record: None)
        assert len(read_journal(made / "journal.jsonl")) == 1
    return made


def test_the_readme_says_of_survival_what_its_page_does():
    (heading,) = re.findall(r"^\| fault \| (.*) \|$", read("docs/survival.md"), re.MULTILINE)
    (counts,) = re.findall(r"^\| \*\*survived\*\* \| (.*) \|$", read("docs/survival.md"), re.M)
    told = dict(zip(heading.split(" | "), counts.split(" | "), strict=True))
    flowers = [told[name].split()[0] for name in told if name.startswith("flower ")]
    ours = [told[name].split()[0] for name in ("krum", "multi-krum", "medoid")]
    assert f"| {', '.join(flowers)} of 76 |" in read("README.md")
    assert f"| {', '.join(ours)} of 76 |" in read("README.md")


def test_the_rule_and_the_attack_of_the_first_five_minutes_meet_in_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(block("docs/start-research.md", "class AroundMedoid"))
    keys = {"f": 6, "num-server-rounds": 2, "run-dir": "run", "attack": "mine.py:Echo"}
    for rule in ("mine.py:AroundMedoid", "nnm | mine.py:AroundMedoid"):
        with quiet_flower():
            run(RunConfig.from_config({**keys, "rule": rule}), "fast", lambda record: None)
        reports = read_journal(tmp_path / "run/journal.jsonl")
        assert [report.stepped for report in reports] == [True, True]
        assert all(len(report.selected) >= 14 for report in reports)
