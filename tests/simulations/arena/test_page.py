import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import simulations.arena

SCRIPT = Path(simulations.arena.__file__).parent / "page.js"


class Cells(HTMLParser):
    """The cells of a page's tables: (table, row's heading, place) to attributes."""

    def __init__(self, html):
        super().__init__()
        self.found, self.table, self.rule, self.heading = {}, -1, "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.table += tag == "table"
        self.heading = tag == "th" or (self.heading and tag == "bdi")
        if tag == "th" and attrs.get("scope") == "row":
            self.rule, self.place = "", 0
        if tag == "td":
            self.found[self.table, self.rule, self.place] = attrs
            self.place += 1

    def handle_data(self, data):
        if self.heading:
            self.rule += data.strip()


@pytest.fixture(scope="module")
def cells(tiny):
    return Cells(tiny.text(".html")).found


def test_every_seed_stands_in_what_hovering_over_its_cell_shows(tiny, cells):
    # Of the first table the first column is the worst case, then come the attacks.
    places = {"none": 1, "alie": 2}
    rows = [row for row in tiny.rows() if row["rule"] == "krum" and row["attack"] in places]
    for row in rows:
        hint = cells[0, "krum", places[row["attack"]]]["data-hint"]
        last, best = float(row["last_accuracy"]), float(row["best_accuracy"])
        assert f"seed {row['seed']}: last {last:.3f}, best {best:.3f} in round " in hint
        share = float(row["byzantine_share"])
        assert f"attackers {share:.0%} of the selected, {row['rounds_skipped']} rounds" in hint
    assert len(rows) == 4


def test_what_a_cell_is_sorted_by_is_its_number_and_none_is_below_every_number(tiny, cells):
    found = [
        float(r["last_accuracy"])
        for r in tiny.rows()
        if (r["rule"], r["attack"]) == ("krum", "alie")
    ]
    assert float(cells[0, "krum", 2]["data-value"]) == pytest.approx(sum(found) / 2, abs=1e-6)
    destroyed, missing = (float(cells[0, rule, 3]["data-value"]) for rule in ("average", "bulyan"))
    assert missing < destroyed < 0


def test_the_page_needs_no_network_and_forbids_it_itself(tiny):
    html = tiny.text(".html")
    assert not re.findall(r"\b(?:src|href|action)\s*=|@import|url\(", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', html)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.findall(r"\sstyle=", html)  # the policy would drop it


FAKE = """
const cell = (dataset, textContent) => ({ dataset, textContent });
const rows = %s.map(([name, value]) => ({ cells: [cell({}, name), cell({ value }, "")] }));
const body = { rows, append(...sorted) { body.rows = sorted; } };
const head = { cells: [] };
head.cells = [0, 1].map((cellIndex) => {
  const at = {};
  return {
    cellIndex,
    parentNode: head,
    getAttribute: (key) => at[key] ?? null,
    setAttribute: (key, value) => (at[key] = value),
    removeAttribute: (key) => delete at[key],
    closest: () => ({ tBodies: [body] }),
  };
});
globalThis.document = {
  getElementById: () => ({}),
  querySelectorAll: () => [],
  addEventListener() {},
};
"""
"""As much of a document as sorting takes: a table of rows with a name and a value."""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on PATH")
def test_a_heading_sorts_by_its_column_and_once_more_the_other_way_round():
    rows = [["b", "0.5"], ["c", "-1.0"], ["a", "0.25"], ["d", "0.75"]]
    names = "body.rows.map((row) => row.cells[0].textContent).join('')"
    calls = "".join(
        f"sortBy(head.cells[{column}]); console.log({names});\n" for column in (1, 1, 0, 0, 1)
    )
    script = FAKE % json.dumps(rows) + SCRIPT.read_text() + calls
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dbac", "cabd", "abcd", "dcba", "dbac"]
