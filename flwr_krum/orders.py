"""What the operator of a run orders about single nodes: a file beside the journal.

`python -m flwr_krum.nodes` writes it, as a whole or not at all, and each round reads it anew. A
file that cannot be read, or is gone, frees nobody: the run keeps to what it said last, and every
report says whom that barred, for a run that goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flwr_krum.boundary.replies import ClientId, client_order, quoted
from flwr_krum.lines import FileError, check_is_file, writing
from flwr_krum.report import is_time

LARGEST = 2**20
"""Bytes of the largest file of orders that is read, or written: each round reads it."""

MODE = 0o644
"""Whoever gives the orders, the run must be able to read them."""


_TIME = "expected a time such as 2026-01-31T09:30:00.000+00:00, in UTC"


class OrdersError(FileError):
    """The file holds no orders; the message names it and says why."""


@dataclass(frozen=True)
class Orders:
    """Who is asked no more, and for whom earlier refusals do not count.

    A node is named by the text of its client id: 7 and "7" are one node here.

    Attributes
    ----------
    barred : frozenset of str
    readmitted : mapping of str to time
        Refusals in rounds that were over by then are forgiven; in UTC, as in a report.
    """

    barred: frozenset[str] = frozenset()
    readmitted: Mapping[str, str] = field(default_factory=dict)

    def bar(self, client: ClientId) -> bool:
        """Say whether a client is barred."""
        return str(client) in self.barred

    @property
    def names(self) -> tuple[str, ...]:
        """Whom they bar, numbers first."""
        return tuple(sorted(self.barred, key=client_order))

    def to_json(self) -> dict[str, Any]:
        """Return the orders as JSON values."""
        return {"barred": sorted(self.barred), "readmitted": dict(self.readmitted)}

    @classmethod
    def from_json(cls, values: Any) -> Orders:
        """Read what ``to_json`` wrote.

        Raises
        ------
        ValueError
            If the values are no orders, or hold anything else besides.
        """
        match values:
            case {"barred": list(barred), "readmitted": dict(readmitted), **others} if not others:
                texts = [*barred, *readmitted.values()]
                if all(isinstance(text, str) for text in texts):
                    for node, time in readmitted.items():
                        if not is_time(time):
                            raise ValueError(
                                f"{quoted(node)} is readmitted at {quoted(time)}, {_TIME}"
                            )
                    return cls(frozenset(barred), readmitted)
        raise ValueError('expected {"barred": [NODE, ...], "readmitted": {NODE: TIME, ...}}')


def orders_beside(journal: Path) -> Path:
    """Return where the orders for the run with this journal lie."""
    return journal.with_name(journal.name + ".nodes")


def read_orders(path: Path) -> Orders:
    """Read a file of orders.

    Raises
    ------
    OrdersError
        If it is damaged, too large, no file, or cannot be read.
    FileNotFoundError
        If there is none.
    """
    try:
        check_is_file(path)
        with path.open("rb") as file:
            return _parsed(file.read(LARGEST + 1))
    except FileNotFoundError:
        raise
    except FileError as error:
        raise OrdersError(str(error)) from error
    except OSError as error:
        raise OrdersError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise OrdersError(f"{path} holds no orders: {error}") from error


def _parsed(text: bytes) -> Orders:
    """Read the text of a file of orders; raise ValueError if it holds none, or too many."""
    if len(text) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    return Orders.from_json(json.loads(text))


def write_orders(path: Path, orders: Orders) -> None:
    """Put orders in the place of those that a file holds, all at once.

    Raises
    ------
    FileError
        If it cannot be written, or could not be read afterwards; it is then as it was.
    """
    check_is_file(path)
    text = json.dumps(orders.to_json(), indent=1).encode() + b"\n"
    try:
        _parsed(text)
    except ValueError as error:
        raise OrdersError(f"{path} cannot hold these orders: {error}") from error
    with writing(path), contextlib.ExitStack() as undo:
        file, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        undo.callback(Path(name).unlink)
        with os.fdopen(file, "wb") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        Path(name).chmod(MODE)
        Path(name).replace(path)
        undo.pop_all()


class StandingOrders:
    """The orders that a run obeys.

    Parameters
    ----------
    journal : Path
    barred : iterable of str
        Whom the run had barred before it was stopped; they stay barred where the file is gone.

    Attributes
    ----------
    problem : str
        Why they are not those of the file; empty if they are.

    Raises
    ------
    OrdersError
        If there is a file that cannot be read: a run must not begin without knowing whom to bar.
    """

    def __init__(self, journal: Path, barred: Iterable[str] = ()) -> None:
        self._path = orders_beside(journal.absolute())
        before = Orders(frozenset(barred))
        self._orders = before if before.barred else None
        self._obeyed_since: dict[tuple[str, str], str] = {}
        self.problem = ""
        with contextlib.suppress(FileNotFoundError):
            self._orders = read_orders(self._path)

    def now(self, time: str) -> Orders:
        """Read the orders anew, and return them, or the last ones that could be read.

        Parameters
        ----------
        time : str
            That of the reader. A release at a later one, by a clock that is ahead, forgives the
            refusals up to this time, when it is first read, and none that follow.
        """
        try:
            self._orders = read_orders(self._path)
            self.problem = ""
        except FileNotFoundError:
            self.problem = "" if self._orders is None else self._kept(f"{self._path} is gone")
        except OrdersError as error:
            self.problem = self._kept(str(error))
        self._obeyed_since = {
            release: self._obeyed_since.get(release, min(release[1], time))
            for release in self.last.readmitted.items()
        }
        return replace(self.last, readmitted={n: t for (n, _), t in self._obeyed_since.items()})

    @property
    def last(self) -> Orders:
        """The orders as they were read last."""
        return self._orders or Orders()

    def _kept(self, why: str) -> str:
        barred = ", ".join(self.last.names) or "nobody"
        return f"{why}; the orders before it stand, barred: {barred}"
