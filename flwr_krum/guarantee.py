"""What can be said of Proposition 1's condition in the round at hand, from its n x n geometry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.distances import Distances
from flwr_krum.resilience import eta, required_clients
from flwr_krum.rules.krum import eta_squared
from flwr_krum.rules.rule import Aggregate, Rule

Verdict: TypeAlias = Literal["holds", "does not hold", "cannot be known"]

CONFIDENCE = 2.0
"""Standard errors by which an estimate must clear the bound before a verdict is given."""


@dataclass(frozen=True)
class Guarantee:
    """What can be said of Proposition 1's condition in one round.

    Attributes
    ----------
    verdict : "holds" | "does not hold" | "cannot be known"
    n, f : int
        Accepted clients, and the f in force.
    eta : float or None
        None where n and f are illegal.
    noise : float or None
        Estimate of ``sqrt(d) sigma``, in the unit of the models.
    signal : float or None
        Estimate of ``||g||`` in the same unit; 0 where it drowns in the noise.
    sin_alpha : float or None
        ``eta noise / signal``; None where the signal is 0 or something is unknown.
    needed : float or None
        By how much ``sigma^2`` would have to shrink for the condition to hold.
    reason : str
        Why nothing can be known.
    """

    verdict: Verdict
    n: int
    f: int
    eta: float | None = None
    noise: float | None = None
    signal: float | None = None
    sin_alpha: float | None = None
    needed: float | None = None
    reason: str = ""

    def line(self) -> str:
        """Say the verdict and its figures in one line."""
        figures = self.reason
        if self.signal is not None and self.eta is not None:
            sine = "beyond measure" if self.sin_alpha is None else f"{self.sin_alpha:.3g}"
            figures = (
                f"sin(alpha) = {sine} (eta {self.eta:.3g}, noise {self.noise:.3g}, "
                f"gradient {self.signal:.3g})"
            )
        return f"guarantee {self.verdict}: {figures}"

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON; what is not finite is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote."""
        read = cls(**values)
        drowned = read.signal is not None and read.needed is None
        return replace(read, needed=math.inf) if drowned else read

    def advice(self, batch_size: int | None = None) -> str:
        """Say what it would take for the condition to hold, in words that one can act on.

        ``sigma^2`` falls as one over the mini-batch size; over k local steps the gradient adds up
        k times and the noise sqrt(k) times, so that k steps do what k times the batch does, as
        long as the steps are short. Clients help only until eta, which grows with n, wins.
        """
        if self.verdict == "holds" or self.needed is None:
            return ""
        if math.isinf(self.needed):
            return "no gradient shows through the noise: larger mini-batches first"
        factor = math.ceil(self.needed)
        grown = "" if batch_size is None else f" ({batch_size} -> {batch_size * factor})"
        enough = self._enough_clients()
        clients = "no number of clients would do" if enough is None else f"or {enough} clients"
        batches = f"mini-batches {factor} times as large{grown}"
        return f"{batches}, or {factor} times the local steps; {clients}"

    def _enough_clients(self) -> int | None:
        """Return the smallest n at which the condition would hold for the same f, if any."""
        allowed = eta_squared(self.n, self.f) / Fraction(self.needed or 1)
        n = required_clients(self.f)
        # eta^2 is at least 2 (n - f): beyond this n it only grows past what is allowed.
        while 2 * (n - self.f) <= allowed:
            if eta_squared(n, self.f) < allowed:
                return n
            n += 1
        return None


def estimate(distances: Distances, trusted: Sequence[int], n: int, f: int) -> Guarantee:
    """Judge the condition from the n x n geometry of a round, without another look at a model.

    With m vectors V_i of mean g and variance ``d sigma^2``::

        d sigma^2  ~  sum_{i != j} ||V_i - V_j||^2 / (2 m (m - 1))
        ||g||^2    ~  sum_{i != j} <V_i, V_j> / (m (m - 1))

    Both are unbiased for independent vectors; taken over the m clients of best score, who are
    closer together than m drawn at random, the first is too small, so that "does not hold" errs
    on the side of hope. The verdict clears its bound by two jackknife standard errors.

    Parameters
    ----------
    distances : Distances
        The geometry of the offsets from the global model.
    trusted : indices
        The m clients that the estimate is taken over.
    n, f : int
        Accepted clients, and the f in force.
    """
    m = len(trusted)
    try:
        bound = eta(n, f)
    except ValueError as illegal:
        return Guarantee("cannot be known", n, f, reason=str(illegal))
    if m < 3:
        reason = f"{m} vectors, at least 3 are needed"
        return Guarantee("cannot be known", n, f, bound, reason=reason)
    block = np.ix_(trusted, trusted)
    gram, squared = distances.gram[block], distances.squared[block]
    # In a unit of its own the square of a square neither overflows nor vanishes.
    unit = float(np.abs(gram).max()) or 1.0
    if not (math.isfinite(unit) and math.isfinite(squared.max())):
        return Guarantee("cannot be known", n, f, bound, reason="the geometry is not finite")
    products, gaps = _off_diagonal(gram / unit), _off_diagonal(squared / unit)
    square = float(products.sum()) / (m * (m - 1))
    variance = float(gaps.sum()) / (2 * m * (m - 1))
    margin = square - bound**2 * variance
    margins = _without_each(products) - bound**2 * _without_each(gaps) / 2
    error = math.sqrt((m - 1) / m * float(((margins - margins.mean()) ** 2).sum()))
    verdict: Verdict = "cannot be known"
    reason = "within two standard errors of the bound"
    if abs(margin) > CONFIDENCE * error:
        verdict, reason = ("holds" if margin > 0 else "does not hold"), ""
    noise, signal = math.sqrt(max(0.0, variance)), math.sqrt(max(0.0, square))
    needed = bound**2 * variance / square if square > 0 else math.inf
    sine = bound * noise / signal if signal > 0 else None
    length = math.sqrt(unit) / distances.scale
    return Guarantee(verdict, n, f, bound, noise * length, signal * length, sine, needed, reason)


def _off_diagonal(matrix: Float64) -> Float64:
    """Return the sum of each row of an (m, m) matrix without the diagonal."""
    sums: Float64 = matrix.sum(axis=1) - matrix.diagonal()
    return sums


def _without_each(sums: Float64) -> Float64:
    """Return the mean off-diagonal entry without each row and column, of a symmetric matrix.

    Parameters
    ----------
    sums : (m,)
        Its rows' sums, as `_off_diagonal` returns them.
    """
    m = len(sums)
    means: Float64 = (sums.sum() - 2.0 * sums) / ((m - 1) * (m - 2))
    return means


def judge(rule: Rule, aggregate: Aggregate, n: int, centred: bool) -> Guarantee:
    """Judge a round by what its rule did.

    Parameters
    ----------
    rule : Rule
        The rule in force.
    aggregate : Aggregate
        Its result.
    n : int
        Accepted clients.
    centred : bool
        Whether the offsets are taken from the global model: without it nothing is a gradient.
    """
    f, ranking = rule.liars(n), aggregate.geometry.ranking
    if not rule.in_proposition_1:
        return Guarantee("cannot be known", n, f, reason="Proposition 1 is about Krum's score")
    if ranking is None:
        return Guarantee("does not hold", n, f, reason="the round averaged (Lemma 1)")
    if not centred:
        return Guarantee("cannot be known", n, f, reason="the global model is not known")
    return estimate(aggregate.geometry.distances, ranking.order[: max(1, n - f)], n, f)
