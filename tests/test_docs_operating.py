"""The page for operators names what there is."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from flwr_krum import nodes
from flwr_krum.monitor import command
from flwr_krum.monitor.alerts import Alert, Kind
from flwr_krum.monitor.tally import METRICS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operating.md").read_text()


def first_columns(heading):
    """Return the code in the first column of the table below a heading."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    rows = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_metrics_are_those_that_there_are_with_their_labels():
    told = dict(re.fullmatch(r"(\w+)(\{.*\})?", m).groups() for m in first_columns("| metric,"))
    exposed = {}
    for name, (kind, _, labels) in METRICS.items():
        suffix = "_total" if kind == "counter" else ""
        exposed[name + suffix] = "{" + ",".join(labels) + "}" if labels else None
    assert told == exposed


def test_the_alerts_are_those_that_there_are():
    assert first_columns("| alert |") == list(get_args(Kind))
    (example,) = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    assert example.keys() == {*Alert._fields, "journal"}


@pytest.mark.parametrize(
    ("module", "parser"), [("monitor", command._parser), ("nodes", nodes._parser)]
)
def test_the_commands_are_legal(module, parser):
    found = re.findall(rf"^python -m flwr_krum\.{module} ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    assert len(found) >= 2
    for arguments in found:
        assert parser().parse_args(shlex.split(arguments.replace("\\\n", " "))).journal


def test_the_function_of_the_page_is_one_that_a_strategy_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    made = {}
    exec(code, made)
    assert made["strategy"]._rounds.on_report is made["tell"]


def test_every_place_that_the_page_names_is_there():
    links = re.findall(r"\]\((\w+\.md)(?:#[\w-]+)?\)", PAGE)
    files = re.findall(r"`(deploy/[\w.-]+)`", PAGE)
    assert len(links) >= 3
    assert all((ROOT / "docs" / link).exists() for link in links)
    assert files
    assert all((ROOT / file).exists() for file in files)
