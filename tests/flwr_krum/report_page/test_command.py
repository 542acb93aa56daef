"""A page from a journal alone: what the journal says is on it, and what nobody knows is not."""

import json
import re
import subprocess
import sys

import pytest

from flwr_krum.report_page.command import main
from flwr_krum.report_page.journals import read_journals
from flwr_krum.report_page.render import render


def test_a_journal_becomes_a_page_without_a_run_folder_or_torch(journal, tmp_path):
    page = tmp_path / "new" / "report.html"
    code = (
        "import sys; from flwr_krum.report_page.command import main; main(sys.argv[1:]);"
        "print({'torch', 'simulations', 'clients'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, journal, "--page", page],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"report: {page}\nset()\n"
    assert "<title>first-run0 · resilience report</title>" in page.read_text()


@pytest.fixture(scope="module")
def html(journal):
    return render(read_journals([journal]))


def test_the_page_has_the_journals_rounds_nodes_and_verdicts(html, journal):
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    (run,) = json.loads(data)["runs"]
    reports = [json.loads(line) for line in journal.read_text().splitlines()]
    assert run["rounds"] == [1, 2, 3, 4]
    assert run["clients"] == ["0", "1", "2", "3", "4", "5", "7", "8", "six"]
    assert [row[7] for row in run["cells"]] == ["R", "R", "Q", "Q"]
    assert run["f"] == [report["byzantine"] for report in reports]
    verdicts = [report["certificate"] and report["certificate"]["verdict"] for report in reports]
    letters = {"holds": "h", "does not hold": "n", "cannot be known": "u", None: "-"}
    assert run["certificates"] == "".join(letters[verdict] for verdict in verdicts)
    assert len(json.loads(data)["certified"]) == 1
    assert "a disk is full" in html


def test_the_page_says_nothing_that_a_journal_cannot_know(html):
    text, _ = html.split('<script type="module">')
    for word in ("Byzantine selected", "Accuracy", "accuracy</th>", ">role<", "Test loss"):
        assert word not in text


@pytest.mark.parametrize("name", ["second.jsonl", "link", "folder/../second.jsonl"])
def test_a_page_takes_no_journals_place(tmp_path, capsys, name):
    journals = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for journal in journals:
        journal.write_text("")
    (tmp_path / "link").symlink_to(journals[1])
    (tmp_path / "folder").mkdir()
    page = tmp_path / name
    assert main([*map(str, journals), "--page", str(page)]) == 2
    said = f"ValueError: --page {page} is the journal {journals[1]}, expected another file\n"
    assert capsys.readouterr() == ("", said)
    assert journals[1].read_text() == ""


def test_a_run_before_its_first_round_has_a_page(tmp_path):
    path = tmp_path / "young.jsonl"
    path.write_text("")
    assert "no round yet" in render(read_journals([path]))


def test_journals_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    paths = [tmp_path / folder / "run.jsonl" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("")
    assert [run.label for run in read_journals(paths)] == ["a/run", "b/run"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory"), ("no json\n", "line 1: not a round report")],
)
def test_what_is_no_journal_is_a_sentence(content, said, tmp_path, capsys):
    path = tmp_path / "j"
    if content is not None:
        path.write_text(content)
    assert main([str(path), "--page", str(tmp_path / "page.html")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
