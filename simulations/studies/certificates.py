"""How often each rule's certificate holds under attack, and whether it was ever wrong.

Multi-Krum steers the spam filter, with a third of the clients Byzantine; in every round each rule
makes its own aggregate of the same replies, which is certified as a strategy does it. Who lied is
known here, so that each statement is held against the truth: the distance from the honest clients'
own average, worked out from their models in 80 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from clients.cohort import Cohort
from clients.learning.models import build_model, parameters_of
from clients.roles import build_client, role_of
from clients.root import RootLearner
from clients.settings import Settings
from clients.tasks import load_task
from flwr_krum.certificate import limit_of
from flwr_krum.certified import certified
from flwr_krum.kernel.stored import Layer
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules import RULES, Rule
from flwr_krum.rules.rule import ROOT
from flwr_krum.rules.written import parse_rule

N, F = 20, 6

ATTACKS: Mapping[str, str] = {
    "none": "none",
    "Gaussian": "gaussian",
    "omniscient": "omniscient",
    "ALIE": "alie",
    "IPM": "ipm",
    "sign flip": "sign-flip",
    "Min-Max": "min-max",
    "copies of the mean": "alie(z=0)",
}
"""Attacks as they are written, by what the table calls them."""

STEERS = "multi-krum"
LEFT_OUT: Mapping[str, str] = {"norm-bounding": "its bound has no default"}
MIXED = ("nnm | krum", "nnm | trimmed-mean")


@dataclass
class Tally:
    """What was said of a rule's rounds under one attack, and what was so.

    Attributes
    ----------
    rounds : int
    holds : int
        Rounds whose certificate holds.
    wrong : int
        Rounds in which the aggregate was farther from the honest average than was said.
    moved : int
        Rounds in which it was farther than the limit allows.
    moved_and_holds : int
        Those of them whose certificate holds.
    closest : float
        The largest share of what was said that was so.
    """

    rounds: int = 0
    holds: int = 0
    wrong: int = 0
    moved: int = 0
    moved_and_holds: int = 0
    closest: float = 0.0

    def add(self, verdict: str, kappa: float, true: np.longdouble, limit: float) -> None:
        """Count a round of which this was said, and whose true ratio of squares was this."""
        self.rounds += 1
        self.holds += verdict == "holds"
        self.wrong += bool(true > kappa)
        self.moved += bool(true > limit)
        self.moved_and_holds += bool(true > limit) and verdict == "holds"
        if 0.0 < kappa < np.inf:
            self.closest = max(self.closest, float(true / np.longdouble(kappa)))


Wide: TypeAlias = NDArray[np.longdouble]

Found = Mapping[str, Mapping[str, Tally]]
"""Tallies by rule and attack; a rule that cannot run on so many clients has none."""


def study(
    rounds: int, seed: int = 0, watch: Callable[[str, int], None] = lambda attack, done: None
) -> Found:
    """Return what became of every rule under every attack.

    Parameters
    ----------
    rounds : int
        Of each attack.
    seed : int
    watch : callable, (attack, rounds done) -> None
        Called after each round.
    """
    names = [name for name in RULES if name not in LEFT_OUT]
    rules = {name: parse_rule(name, f=F, seed=seed) for name in (*names, *MIXED)}
    found: dict[str, dict[str, Tally]] = {name: {} for name in rules}
    limit = limit_of(N, F)
    runs = {name: rule for name, rule in rules.items() if rule.suffices(N, F)}
    for called, attack in ATTACKS.items():
        tallies = {name: found[name].setdefault(called, Tally()) for name in runs}
        for t, updates, own in _rounds(attack, rounds, seed):
            honest = _vectors(updates)[: N - F]
            for name, rule in runs.items():
                seen = own if rule.server_rows else updates
                aggregate = rule(seen, server_round=t)
                said = certified(aggregate, seen, range(N), F, limit)
                true = _ratio(_vector(aggregate.layers), honest)
                tallies[name].add(said.verdict, said.kappa, true, limit)
            watch(called, t)
    return found


def _rounds(
    attack: str, rounds: int, seed: int
) -> Iterator[tuple[int, ClientUpdates, ClientUpdates]]:
    """Yield each round's replies, without and with a model of the server's own."""
    config: dict[str, Any] = {"num-clients": N, "f": F, "attack": attack, "seed": seed}
    settings = Settings.from_config(config)
    cohort = Cohort([build_client(settings, i, role_of(settings, i, {})) for i in range(N)])
    root = RootLearner(settings, load_task(settings))
    steers: Rule = parse_rule(STEERS, f=F)
    model = list(parameters_of(build_model(settings.task, settings.model, seed)).values())
    for t in range(1, rounds + 1):
        with threadpool_limits(1, user_api="blas"):
            replies = [arrays for arrays, _ in cohort.propose(range(N), model, t)]
            updates = ClientUpdates.from_layers(replies, model)
            own = ClientUpdates.from_layers(replies, model, server_rows={ROOT: root(model)})
            yield t, updates, own
            model = list(steers(updates, server_round=t).layers)


def _vectors(updates: ClientUpdates) -> Wide:
    return np.stack([_vector(model) for model in updates.models])


def _vector(layers: Sequence[Layer]) -> Wide:
    return np.concatenate([np.asarray(x).ravel().astype(np.longdouble) for x in layers])


def _ratio(
    point: Wide,
    honest: Wide,
) -> np.longdouble:
    """Return ``||A - mean||^2 / V`` of the honest; 0/0 is 0."""
    mean = honest.mean(axis=0)
    off = ((point - mean) ** 2).sum()
    spread = ((honest - mean) ** 2).sum() / len(honest)
    if off == 0.0:
        return np.longdouble(0)
    return np.longdouble(np.inf) if spread == 0.0 else np.longdouble(off / spread)


def markdown(found: Found, rounds: int, command: str) -> str:
    """Return the table of shares that hold, and what the comparison with the truth came to."""
    made = (
        f"`{command}`: n = {N}, f = {F}, limit {limit_of(N, F):g}, {rounds} rounds of each attack; "
        f"{STEERS} steers. The share of rounds in which the certificate holds, in percent:"
    )
    heads = f"| rule | {' | '.join(ATTACKS)} |"
    lines = [made, "", heads, f"| --- |{' ---: |' * len(ATTACKS)}"]
    for rule, tallies in found.items():
        shares = [100 * tallies[a].holds / tallies[a].rounds for a in ATTACKS] if tallies else []
        cells = [f"{share:.4g}" for share in shares] or ["–"] * len(ATTACKS)
        named = rule.replace("|", r"\|")
        lines.append(f"| {named} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in comparison(found)), ""])


def comparison(found: Found) -> list[str]:
    """Say how the certificates compare with the truth."""
    every = [tally for tallies in found.values() for tally in tallies.values()]
    average = list(found["average"].values())
    cannot = [rule for rule, tallies in found.items() if not tallies]
    truth = (
        f"In {sum(t.wrong for t in every)} of {sum(t.rounds for t in every)} certificates the "
        "aggregate was farther from the honest clients' average than was said; the nearest it came "
        f"to that was {max(t.closest for t in every):.6f} of it, squared."
    )
    lines = [truth, *(_moved(who, t) for who, t in (("Average", average), ("All rules", every)))]
    if cannot:
        lines.append(f"–: {', '.join(cannot)} cannot run on {N} clients with {F} liars.")
    lines += [f"Left out: {name}, {why}." for name, why in LEFT_OUT.items()]
    return lines


def _moved(who: str, tallies: Sequence[Tally]) -> str:
    moved, holds = (sum(getattr(t, name) for t in tallies) for name in ("moved", "moved_and_holds"))
    return (
        f"{who}: moved by more than the limit in {moved} rounds, of which the certificate holds in "
        f"{holds}."
    )
