"""What docs/replies.md says of caps and names is what the code has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from flwr_krum.boundary.messages import MOST_RECORDS
from flwr_krum.boundary.metrics import LONGEST_METRIC, MOST_METRICS, MOST_NUMBERS
from flwr_krum.kernel.updates import BLOCK
from flwr_krum.report import RoundReport
from flwr_krum.settings import RoundOptions

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "replies.md").read_text().split())


def test_the_caps_are_those_of_the_code():
    assert (
        f"at most {MOST_METRICS:,} metrics, {MOST_NUMBERS:,} numbers in all of them, "
        f"{LONGEST_METRIC} characters in a name and {MOST_RECORDS} records are read"
    ) in PAGE
    assert f"n blocks of {BLOCK:,} numbers" in PAGE


def test_the_options_and_fields_that_it_names_exist():
    options = set(re.findall(r"`(\w+_keys|max_reply_bytes|quarantine)=?`", PAGE))
    assert options == {"shared_keys", "distance_keys", "max_reply_bytes", "quarantine"}
    assert options <= RoundOptions.__optional_keys__
    fields = set(re.findall(r"`report\.(\w+)`", PAGE))
    assert fields == {"kept", "dropped"}
    assert fields <= inspect.signature(RoundReport).parameters.keys()
