"""What is left to do when the last reply of a round came, with and without what was begun early.

Rounds of Multi-Krum in one process, by turns: the replies come one after the other, each when
nothing is being worked out any more. What is measured is the processor's time, of all threads:
other programs on the machine do not count in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from flwr.common import Code, FitRes, Parameters, Status
from rich.table import Table

from benchmarks.data import draw
from flwr_krum.boundary.early import Early
from flwr_krum.boundary.intake import admit
from flwr_krum.boundary.messages import Limits, of_result
from flwr_krum.boundary.npy import SERIALIZATION, encode
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.spill import Spill
from flwr_krum.boundary.template import Template
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.combine import combine
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.ways import prepare, warm_up
from flwr_krum.rules import MultiKrum


@dataclass(frozen=True)
class Spent:
    """The processor's seconds in one round.

    Attributes
    ----------
    is_early : bool
        Whether distances were worked out as replies came.
    before, after : float
        Until the last reply was there (to write it to a file is part of it), and from then until
        the new model was.
    choice : float
        From then until it was known who is selected.
    """

    is_early: bool
    before: float
    choice: float
    after: float


def measured(
    n: int, d: int, f: int, kind: str, repeats: int, device: str, folder: Path | None
) -> list[Spent]:
    """Return what rounds of n clients of d float32 take, early and late by turns.

    Parameters
    ----------
    kind : str
        How the clients' noise differs, see `benchmarks.data`.
    folder : Path, optional
        Where all replies go; by default they stay in memory.
    """
    prepare(device)
    warm_up(device, n, d)
    case = draw(n, d, f=f, layers=1, kind=kind)
    order = np.random.default_rng(0).permutation(n)
    sent = [(int(client), encode(case.rows[client])) for client in order]
    template = Template.of({"0": case.base})
    spill = None if folder is None else Spill(0, folder)
    with one_blas_thread():
        found = [
            _spent(template, sent, f, device, spill, is_early=is_early)
            for _ in range(repeats + 1)
            for is_early in (False, True)
        ]
    return found[2:]  # the first ones touch their memory for the first time


def _spent(
    template: Template,
    sent: Sequence[tuple[int, bytes]],
    f: int,
    device: str,
    spill: Spill | None,
    *,
    is_early: bool,
) -> Spent:
    n = len(sent)
    if spill is not None:
        spill.begin(template.usual_reply, Limits(), n, 0)
    early = Early(template, device, n)
    times = [time.process_time()]
    replies = []
    for client, data in sent:
        replies.append(_kept(client, data, spill))
        if is_early:
            early.take(replies[-1])
            early.known()
    times.append(time.process_time())
    updates = admit(replies, template, device, f, early.known()).updates
    assert updates is not None  # all are sound
    choice = MultiKrum(f=f).choose(ClientGeometry(updates), 1)
    times.append(time.process_time())
    combine(updates, choice.mix, choice.window)
    times.append(time.process_time())
    if spill is not None:
        spill.end()
    first, came, chosen, done = times
    return Spent(is_early, came - first, chosen - came, done - came)


def _kept(client: int, data: bytes, spill: Spill | None) -> Reply:
    """Return a reply as it is when it was taken: in memory, or in the file."""
    result = FitRes(Status(Code.OK, ""), Parameters([data], SERIALIZATION), 1, {})
    return of_result(client, spill.kept_result(result) if spill else result, Limits())


def table(found: Iterable[Spent], n: int, d: int) -> Table:
    """Return the medians of early and of late rounds, one below the other."""
    shown = Table(title=f"Multi-Krum, {n} clients of {d:,} float32: the processor's seconds")
    for column in ("distances", "last reply to choice", "whole round"):
        shown.add_column(column, justify="left" if column == "distances" else "right")
    spent = list(found)
    for is_early, name in ((False, "when all are there"), (True, "as replies come")):
        those = [one for one in spent if one.is_early == is_early]
        choice = median(one.choice for one in those)
        whole = median(one.before + one.after for one in those)
        shown.add_row(name, f"{choice:.3f}", f"{whole:.3f}")
    return shown
