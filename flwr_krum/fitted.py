"""The rule as it applies to one round: to the clients that were accepted, and to their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flwr_krum.boundary.replies import ClientId
from flwr_krum.in_force import obstacle
from flwr_krum.rules.rule import Rule
from flwr_krum.weights import DeclaredWeights, Weighting


class Fitted(NamedTuple):
    """A rule for a round, how its sites count, and whether it runs.

    ``obstacle`` says why the round is infeasible, empty if it is not; a degraded rule runs all the
    same. ``needed`` is how many replies would have done, also where it is degraded.
    """

    rule: Rule
    weighting: Weighting | None
    obstacle: str
    runs: bool
    needed: int


def fit(
    rule: Rule, weights: DeclaredWeights, clients: Sequence[ClientId], f: int, *, degrades: bool
) -> Fitted:
    """Return a rule for a round; a degraded one counts all sites alike.

    Parameters
    ----------
    rule : Rule
        As the operator declares it.
    weights : DeclaredWeights
    clients : sequence of client ids
        The accepted ones.
    f : int
        The f in force.
    degrades : bool
        Whether an infeasible round goes on without the rule's requirement on n.
    """
    rule = rule.fitted(len(clients), f)
    needed = max(rule.least_clients, weights.least_for(f))
    problem = obstacle(rule, len(clients))
    weighting, too_heavy = weights.among(rule, clients, f)
    problem = problem or too_heavy
    if not (problem and clients and degrades):
        return Fitted(rule, weighting, problem, not problem, needed)
    rule = rule.degraded()
    runs = not obstacle(rule, len(clients))
    return Fitted(rule, weights.alike(clients, f), problem, runs, needed)


def liars_among(rule: Rule, n: int) -> int:
    """Return how many of n replies may lie in what decides about keys and metrics."""
    liars = rule.liars(n)
    if rule.f is None and rule.bears_liars:
        return max(liars, min(1, (n - 1) // 2))  # as few as they are, one of them may
    return liars
