"""Declared weights: how much each site counts, by the operator's word and under a cap.

Sites differ in size, and nothing that a client says about its own can be believed. So the operator
declares the sizes; they are cut at a cap, worked out anew for the replies that a round accepted, so
that the f heaviest of them hold no more than a stated share. Definitions, bounds and
counterexamples are in docs/weights.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from numbers import Real
from typing import Any, Self

import numpy as np

from flwr_krum.boundary.replies import ClientId, Reply, quoted
from flwr_krum.in_force import WAY_OUT
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.shares import capped, heaviest, largest_cap
from flwr_krum.rules import RULES
from flwr_krum.rules.rule import Rule

NO_WEIGHT = "no declared weight"
"""Why a reply is refused of a site that the operator does not name."""

DEFAULT_CAP = 0.25

ALARMING = 5.0
"""How many times more examples for its weight than usual, or less, a site may claim unnoticed."""

_SAME = 1e-9
"""Relative difference of two shares of which one was written down."""

_LEAST, _MOST = 1e-100, 1e100
"""What a declared weight may be."""


@dataclass(frozen=True)
class Weighting:
    """How much the accepted sites of a round count.

    Attributes
    ----------
    declared : mapping of client id to share
        Of the declared weights of the accepted sites, of sum 1.
    shares : mapping of client id to share
        Of the same weights cut at ``largest``: those that count.
    largest : float
        U, in the operator's unit; the largest weight where nothing is cut.
    held : float
        W_f, the share that the f heaviest sites hold.
    cap : float, optional
        The share that they may hold, 1 where there is no limit; None where an older journal does
        not say.
    """

    declared: Mapping[ClientId, float]
    shares: Mapping[ClientId, float]
    largest: float
    held: float
    cap: float | None = None

    @classmethod
    def cut_at(
        cls, weights: Mapping[ClientId, float], largest: float, f: int, cap: float | None = None
    ) -> Self:
        """Cut the weights of a round's sites at a largest one."""
        values = np.array(list(weights.values()))
        declared, shares = capped(values, float(values.max())), capped(values, largest)
        return cls(
            dict(zip(weights, declared.tolist(), strict=True)),
            dict(zip(weights, shares.tolist(), strict=True)),
            largest,
            heaviest(shares, f),
            cap,
        )

    @property
    def counting(self) -> Float64:
        """The shares (n,) that count, in the clients' order."""
        return np.array(list(self.shares.values()))

    def lines(self, f: int) -> list[str]:
        """Return what an operator wants to read of it."""
        moved = sum(abs(self.shares[site] - share) for site, share in self.declared.items()) / 2.0
        cut = f"sizes cut at {self.largest:.6g} ({moved:.1%} of the weight moved)"
        held = f"the {f} heaviest of the accepted hold {self.held:.1%}"
        shares = ", ".join(
            f"{site} {share:.1%}"
            + (f" (declared {declared:.1%})" if abs(share - declared) >= 0.0005 else "")
            for site, share in self.shares.items()
            for declared in [self.declared[site]]
        )
        meant = "the honest mean is that by these shares"
        return [f"declared weights: {cut if moved else 'nothing cut'}; {held}; {meant}", shares]

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON; ids keep their types."""
        return {
            "declared": [list(pair) for pair in self.declared.items()],
            "shares": [list(pair) for pair in self.shares.items()],
            "largest": self.largest,
            "held": self.held,
            "cap": self.cap,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote."""
        by_site = {name: dict(map(tuple, values[name])) for name in ("declared", "shares")}
        return cls(**{**values, **by_site})


@dataclass(frozen=True)
class DeclaredWeights:
    """The weights of a federation's sites, as the operator declares them; None is to have none.

    Parameters
    ----------
    rule : Rule
    weights : mapping of client id to number, optional
    cap : float, optional
        The share that the f heaviest of a round's sites may hold; None cuts nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind or range; if there are weights and the rule has no
        definition with them, or follows the replies with its f.
    """

    rule: Rule
    weights: Mapping[ClientId, float] | None = None
    cap: float | None = DEFAULT_CAP
    _declared: Mapping[ClientId, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_cap(self.cap)
        if self.weights is None:
            if self.cap != DEFAULT_CAP:
                raise ValueError(f"weight_cap is {self.cap!r} without weights: declare them")
            return
        object.__setattr__(self, "_declared", _checked(self.weights))
        _check_rule(self.rule)
        if self.least_clients > len(self._declared):
            raise ValueError(
                f"weight_cap={self.cap} is less than f/n = {self.rule.f}/{len(self._declared)}, "
                f"what {self.rule.f} sites of equal weight hold: raise it, or lower f"
            )

    @property
    def least_clients(self) -> int:
        """The smallest number of sites of which f can be held under the cap; 1 without weights."""
        return self.least_for(self.rule.f or 0)

    def least_for(self, f: int) -> int:
        """Return `least_clients` for another f than the declared one."""
        if self.weights is None or self.cap is None:
            return 1
        return next(n for n in count(max(1, int(f / self.cap))) if f / n <= self.cap)

    def __str__(self) -> str:
        if self.weights is None:
            return "Weights: all sites alike"
        known = f"Weights: declared for {len(self._declared)} sites"
        if self.cap is not None:
            return f"{known}, cut so that the f heaviest of a round hold at most {self.cap:.3g}"
        share = heaviest(np.array(list(self._declared.values())), 1)
        return (
            f"{known}, not capped: one site may hold {share:.1%} of the model, "
            "and more where others do not answer"
        )

    @property
    def _limit(self) -> float:
        return 1.0 if self.cap is None else float(self.cap)

    def unlike(self, before: Weighting | None) -> str:
        """Say how these weights differ from those of an earlier round; empty where they do not.

        Only proportions count: sizes in another unit are the same weights.
        """
        if before is None or self.weights is None:
            was, now = (("declared", "none")[w is None] for w in (before, self.weights))
            return "" if was == now else f"weights were {was} and are {now}"
        if before.cap not in (None, self._limit):
            was_cap, cap = (None if c == 1.0 else c for c in (before.cap, self._limit))
            return f"weight_cap was {was_cap} and is {cap}"
        total = sum(self._declared.get(site, 0.0) for site in before.declared)
        now_by_site = {
            site: self._declared.get(site, 0.0) / total if total else 0.0
            for site in before.declared
        }
        changes = {
            site: abs(math.log(now_by_site[site] / share)) if now_by_site[site] else math.inf
            for site, share in before.declared.items()
        }
        site = max(changes, key=changes.__getitem__)
        if changes[site] <= _SAME:
            return ""
        return (
            f"of the weight of its sites, {quoted(site)} had {before.declared[site]:.6g} and has "
            f"{now_by_site[site]:.6g}"
        )

    def doubts(self, counts: Mapping[ClientId, float]) -> dict[ClientId, str]:
        """Say which sites claim a number of examples out of proportion to their declared weight.

        The median claim for a weight is the measure: units need not agree, and nothing depends on
        it but what is said.
        """
        per_weight = {
            site: count / self._declared[site]
            for site, count in counts.items()
            if site in self._declared and count > 0.0
        }
        if len(per_weight) < 3:
            return {}
        usual = float(np.median(list(per_weight.values())))
        return {
            site: f"claims {counts[site]:.6g} examples, declared {self._declared[site]:.6g}: "
            f"{ratio / usual:.3g} times what is usual here; it weighs what was declared"
            for site, ratio in per_weight.items()
            if not 1.0 / ALARMING < ratio / usual < ALARMING
        }

    def refusing(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        """Return the replies with those of sites that the operator does not name as none."""
        if self.weights is None:
            return replies
        return [
            reply
            if reply.client in self._declared
            else reply._replace(arrays=None, problem=NO_WEIGHT)
            for reply in replies
        ]

    def of_sites(self, clients: Iterable[ClientId]) -> set[ClientId]:
        """Return those of the clients that can be among the f: strangers are not."""
        return {c for c in clients if self.weights is None or c in self._declared}

    def among(
        self, rule: Rule, clients: Sequence[ClientId], f: int
    ) -> tuple[Weighting | None, str]:
        """Return how much the accepted sites of a round count, and why they cannot be weighed.

        Nothing where no weights are declared, or no cap would do.

        Parameters
        ----------
        rule : Rule
            As it applies to this round.
        clients : sequence of client ids
            The accepted sites, in their order.
        f : int
            The f in force.
        """
        if self.weights is None or not clients:
            return None, ""
        sizes = {client: self._declared[client] for client in clients}
        values = np.array(list(sizes.values()))
        largest = float(values.max()) if self.cap is None else largest_cap(values, f, self.cap)
        if largest is None:
            return None, (
                f"weight_cap={self.cap} is less than f/n = {f}/{len(clients)}, what {f} accepted "
                f"sites of equal weight hold; {WAY_OUT}"
            )
        weighting = Weighting.cut_at(sizes, largest, f, self._limit)
        try:
            rule.check_shares(weighting.counting)
        except ValueError as error:
            return weighting, f"{error}; {WAY_OUT}"
        return weighting, ""

    def alike(self, clients: Sequence[ClientId], f: int) -> Weighting | None:
        """Return the accepted sites cut at the smallest of them: all count the same."""
        if self.weights is None or not clients:
            return None
        sizes = {client: self._declared[client] for client in clients}
        return Weighting.cut_at(sizes, min(sizes.values()), min(f, len(clients)), self._limit)


def _check_cap(cap: object) -> None:
    """Raise ValueError unless the cap is a share below 1/2, or None."""
    if not (cap is None or (isinstance(cap, Real) and 0.0 < float(cap) < 0.5)):
        raise ValueError(
            f"weight_cap must be a share with 0 < weight_cap < 0.5, or None, got {cap!r}"
        )


def _checked(weights: object) -> dict[ClientId, float]:
    """Return declared weights as floats; raise TypeError or ValueError if they are none."""
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must map client ids to numbers, got {weights!r}")
    if not weights:
        raise ValueError("weights is empty: declare at least one site")
    for site, weight in weights.items():
        if isinstance(site, bool) or not isinstance(site, int | str):
            raise TypeError(f"weights names a site {site!r}, expected an int or a str")
        is_number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not (is_number and _LEAST <= weight <= _MOST):
            raise ValueError(
                f"the weight of site {quoted(site)} must be a number from {_LEAST:g} to {_MOST:g}, "
                f"got {weight!r}"
            )
    return {site: float(weight) for site, weight in weights.items()}


def _check_rule(rule: Rule) -> None:
    """Raise ValueError unless a rule takes declared weights, saying which do."""
    if rule.weighs is None:
        taking = [name for name, kind in RULES.items() if kind.weighs is not None]
        raise ValueError(
            f"{rule} has no definition with declared weights; those that have: "
            f"{', '.join(taking)}, and nnm before those of a coordinate and the geometric median"
        )
    if rule.f is None and rule.bears_liars:
        raise ValueError(
            f"{rule} has no f of its own, and declared weights are cut by what f sites hold: "
            f"declare f, as in RobustAggregation({type(rule).__name__}(f=1), weights=...)"
        )
