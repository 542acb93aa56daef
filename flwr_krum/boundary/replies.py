"""The words of the boundary: who replies, with what, in which order, and how a text is quoted."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from flwr_krum.boundary.filed import Sent

ClientId: TypeAlias = int | str

LONGEST_TEXT = 500
"""Characters that are kept of a text that a client may have made up."""

LONGEST_NAME = 60
"""Characters that are kept of a name that a client may have made up."""

_NO_METRICS: Mapping[str, object] = {}


class Reply(NamedTuple):
    """A client's reply as it came: npy bytes, wherever they lie, or the reason why there are none.

    ``arrays`` are by key, or in the order of the model's arrays where they have no names.
    ``metrics`` is what the client says about itself; nothing in it touches the model.
    """

    client: ClientId
    arrays: Mapping[str, Sent] | Sequence[Sent] | None
    problem: str = ""
    metrics: Mapping[str, object] = _NO_METRICS


@dataclass(frozen=True)
class Refused:
    """A client whose reply was refused, and why."""

    client: ClientId
    reason: str


def client_order(client: ClientId) -> tuple[bool, int, str]:
    """Return the sort key of a client id: numbers, also written ones, before names."""
    if isinstance(client, int):
        return False, client, ""
    if client.isdecimal() and len(client) < 40:
        return False, int(client), client
    return True, 0, client


def quoted(name: object, most: int = LONGEST_NAME) -> str:
    """Return a name that a client may have made up, in quotes and at a length that a log bears."""
    return repr(str(name)[:most])


def few(names: Collection[str]) -> str:
    """Return the first three names by alphabet, in quotes, and how many there are besides."""
    shown = ", ".join(map(quoted, heapq.nsmallest(3, names)))
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def on_one_line(text: object, most: int = LONGEST_TEXT) -> str:
    """Return a text that a client may have made up, cut, and without a line of its own in a log."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[:most])


def in_a_sentence(error: BaseException) -> str:
    """Return an error's type and text on one line; the type alone where the text is no better."""
    name = type(error).__name__
    try:
        return f"{name}: {on_one_line(error)}"
    except BaseException:  # also SystemExit: whatever another's __str__ does, its error is said
        return name
