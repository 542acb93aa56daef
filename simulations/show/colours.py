"""The colour of a rule, the same in every picture, and lines that can be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from flwr_krum.calls import parse_calls
from flwr_krum.rules import RULES

# A colour-blind safe palette (Okabe and Ito) in an order that keeps neighbours apart.
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

PALER = ("#777777", "#FFFFFF")
"""What colours are mixed with where there are more rules than colours."""

LINES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
"""How lines of one colour differ."""


def colour_of(rule: str) -> str:
    """Return the colour of a rule by name, each time round the palette paler; the user's last."""
    names = list(RULES)
    cycle, place = divmod(names.index(rule) if rule in names else len(names), len(PALETTE))
    share = 0.5 if cycle else 0.0
    colours = np.array([to_rgb(PALETTE[place]), to_rgb(PALER[cycle % len(PALER)])])
    return to_hex((1 - share) * colours[0] + share * colours[1])


def colour_of_call(rule: str) -> str:
    """Return the colour of a rule as it is written: that of the one that decides, in a chain."""
    *_, last = parse_calls(rule)
    return colour_of(last.name)


def looks_of(rules: Sequence[str]) -> list[dict[str, Any]]:
    """Return how a line for each rule, as it is written, is drawn: by colour, then by dash."""
    seen: Counter[str] = Counter()
    looks = []
    for colour in map(colour_of_call, rules):
        looks.append({"color": colour, "linestyle": LINES[seen[colour] % len(LINES)]})
        seen[colour] += 1
    return looks
