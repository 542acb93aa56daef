"""What a quorum costs: how far Multi-Krum is from the mean of the honest, slow ones included.

One round among 20 nodes that were all asked. f = 4 liars answer at once, 8 honest nodes within two
seconds; 8 others, whose data are other ones, take three to six. The honest mean is that of all 16:
what a round without a quorum would learn from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flwr_krum.attacks.written import parse_attack
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.rules import MultiKrum

F, FAST, SLOW = 4, 8, 8
N = F + FAST + SLOW
COORDINATES = 100
NOISE = 0.8
"""Deviation of an honest node's coordinate; in each, fast and slow nodes are 1 apart on average."""

FAST_SECONDS, SLOW_SECONDS = (1.0, 2.0), (3.0, 6.0)
QUORUMS = (11, 13, 15, 17, 20)
GRACES = (0.0, 0.5)
ATTACKS: Mapping[str, str] = {"far liars": "gaussian", "close liars": "alie"}
"""Attacks as they are written, by what the table calls them."""


class Drawn(NamedTuple):
    """One round: the honest updates (h, d), fast ones first, and the seconds (n,) of all nodes.

    The liars are the first f of the n.
    """

    honest: Float64
    seconds: Float64


@dataclass(frozen=True)
class Cost:
    """What a quorum costs over many rounds.

    Attributes
    ----------
    quorum : Quorum
    taken, slow : float
        Replies that a round took, and those of slow nodes among them: means over the rounds.
    seconds : float
        When a round closed, the mean over the rounds.
    distance : mapping of attack to float
        Root mean square, over rounds and coordinates, of the aggregate less the honest mean.
    """

    quorum: Quorum
    taken: float
    slow: float
    seconds: float
    distance: Mapping[str, float]


def draw(rng: np.random.Generator) -> Drawn:
    """Draw a round."""
    honest = NOISE * rng.standard_normal((FAST + SLOW, COORDINATES))
    honest[FAST:] += 1.0
    fast, slow = rng.uniform(*FAST_SECONDS, FAST), rng.uniform(*SLOW_SECONDS, SLOW)
    return Drawn(honest, np.concatenate([np.zeros(F), fast, slow]))


def taken_by(quorum: Quorum, seconds: Float64) -> tuple[Indices, float]:
    """Return the nodes whose reply was there when the round closed, and when that was."""
    close = min(quorum.closes(seconds.tolist()), float(seconds.max()))
    return np.flatnonzero(seconds <= close), close


def cost(quorum: Quorum, rounds: Sequence[Drawn], seed: int = 0) -> Cost:
    """Return what a quorum costs over some rounds."""
    closed = [taken_by(quorum, drawn.seconds) for drawn in rounds]
    distance = {}
    for name, attack in ATTACKS.items():
        rng = np.random.default_rng([seed, 1])
        squares = []
        for drawn, (taken, _) in zip(rounds, closed, strict=True):
            lies = parse_attack(attack)(drawn.honest, F, rng, n=N)
            rows = np.vstack([lies, drawn.honest])[taken]
            off = MultiKrum(F)(rows).vector - drawn.honest.mean(axis=0)
            squares.append(float((off**2).mean()))
        distance[name] = float(np.sqrt(np.mean(squares)))
    return Cost(
        quorum,
        float(np.mean([len(taken) for taken, _ in closed])),
        float(np.mean([(taken >= F + FAST).sum() for taken, _ in closed])),
        float(np.mean([close for _, close in closed])),
        distance,
    )


def study(
    draws: int, seed: int = 0, quorums: Iterable[int] = QUORUMS, graces: Iterable[float] = GRACES
) -> list[Cost]:
    """Return what every quorum costs, with each grace and no least wait, on the same rounds."""
    rng = np.random.default_rng([seed, 0])
    rounds = [draw(rng) for _ in range(draws)]
    return [
        cost(Quorum(least, grace, wait=0.0), rounds, seed) for grace in graces for least in quorums
    ]


def markdown(found: Sequence[Cost], draws: int, command: str) -> str:
    """Return the costs as a block of a Markdown page."""
    columns = [f"quorum of {N}", "grace", "closes after, s", "replies taken"]
    columns += [f"of the {SLOW} slow", "liars among them", *ATTACKS]
    lines = [f"Made by `{command}`: {draws} rounds.", "", f"| {' | '.join(columns)} |"]
    lines.append(f"| {' | '.join(['---'] * len(columns))} |")
    for one in found:
        distances = " | ".join(f"{one.distance[name]:.2f}" for name in ATTACKS)
        lines.append(
            f"| {one.quorum.least} | {one.quorum.grace:g} | {one.seconds:.1f} | {one.taken:.1f} | "
            f"{one.slow:.1f} | {F / one.taken:.0%} | {distances} |"
        )
    return "\n".join(lines) + "\n"
