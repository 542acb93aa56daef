"""What is certain of a round's aggregate whoever the liars are, as long as they are at most f.

Let A be the aggregate of n accepted replies, S any set of at least n - f of them, mean_S its mean
and ``V_S = mean over S of ||x_i - mean_S||^2``::

    kappa_f  = max over S of ||A - mean_S||^2 / V_S        0/0 is 0, x/0 infinite
    R_f      = max over S of ||A - mean_S||
    P_f      = min over S of <A - x_t, mean_S - x_t>       x_t the global model

If at most f of the accepted replies are not what an honest client would have sent, the honest ones
are one of the sets S: ``||A - mean_H|| <= R_f``, ``||A - mean_H||^2 <= kappa_f V_H`` if kappa_f is
finite, and the inner product is at least P_f. No assumption on distributions, the attack, or how A
came about. Sets of exactly n - f suffice, as a larger set's mean is the mean of theirs and its
variance at least the mean of theirs; all curves are monotone in f.

The direction adds what a mean of few replies misses by chance. With u what the honest would have
sent on average::

    Q_f = min over S of <A - x_t, mean_S - x_t> - c ||A - x_t|| sqrt(V_S / (|S| - 1))

If Q_f is positive, so is ``<A - x_t, u>`` for every u within c standard errors of the honest mean,
whatever the liars do, provided that who lies was settled before the replies were computed. With
this penalty sets of exactly n - f suffice here too.

All of it is about one round's aggregate of float layers: not about counters, which no distance
sees, nor about the rounds to come, in which errors may add up, nor about any one honest client.
That at most f lied in this round cannot be checked from the replies.

All figures bear the rounding of what they are computed from: kappa and R are never too small, P and
Q never too large. Source of kappa and its floor ``f / (n - 2f)``: Allouah et al., AISTATS 2023,
there a worst case over all inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Literal, TypeAlias

import numpy as np

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.enclosure import Enclosure, Points, enclose
from flwr_krum.kernel.student import student, within
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.worst_sets import Figures, clears, figures_of

Verdict: TypeAlias = Literal["holds", "does not hold", "cannot be known"]

Direction: TypeAlias = Literal["gradient (statistical)", "honest mean", "cannot be known"]

MOST_SETS = 10**6
"""Sets that are looked at one by one for a number of liars; for more there are bounds."""


@dataclass(frozen=True)
class Certificate:
    """What is certain of one round, by the number k of liars among the accepted, 0..(n - 1) // 2.

    Attributes
    ----------
    verdict : "holds" | "does not hold" | "cannot be known"
        Whether kappa at f is within the limit.
    n, f : int
        Accepted replies, and the liars among them that the verdict covers.
    limit : float
        Fixed before the round: liars who are refused would move it otherwise.
    kappa : tuple of float
        Never too small; infinite where nothing is known.
    radius : tuple of float
        Distances from the honest mean, in the models' unit; never too small.
    exact : tuple of bool
        Whether a figure is the maximum up to rounding, or a bound on it.
    survives : int
        The largest k with kappa within the limit for every number up to it; -1 for none.
    progress : tuple of float or None
        P in units of ``||A - x_t||^2``, never too large: -inf where the step is too short to tell
        from none. None without a global model or a step.
    direction : "gradient (statistical)" | "honest mean" | "cannot be known"
        With whom the step certainly has a positive inner product.
    standard_errors : float
        By how many of them the honest mean may miss the gradient for that.
    kappa_at_least : float
        What kappa at f is at least: at the set ``honest_if``.
    honest_if : indices
        If the honest were exactly these n - f clients, the aggregate would be so far from them.
        Empty where no set had to be looked at.
    unless : indices
        Clients of no weight: that the step agrees with the honest mean cannot be confirmed without
        assuming that one of them lied. Of such sets a smallest.
    is_final : bool
        Whether A is the model that was sent, or it before rounding to its dtype.
    reason : str
        Why nothing can be known.
    """

    verdict: Verdict
    n: int
    f: int
    limit: float
    kappa: tuple[float, ...] = ()
    radius: tuple[float, ...] = ()
    exact: tuple[bool, ...] = ()
    survives: int = -1
    progress: tuple[float, ...] | None = None
    direction: Direction = "cannot be known"
    standard_errors: float = math.inf
    kappa_at_least: float = 0.0
    honest_if: tuple[int, ...] = ()
    unless: tuple[int, ...] = ()
    is_final: bool = False
    reason: str = ""

    def sentence(self, names: Sequence[Any] | None = None) -> str:
        """Say the verdict in one sentence.

        Parameters
        ----------
        names : n values, optional
            What to call the clients; by default their indices.
        """
        head = f"certificate {self.verdict}"
        if self.verdict == "cannot be known":
            return f"{head}: {self.reason}"
        head += f" at limit {self.limit:.3g} for kappa, {self._allowed()}"
        rounding = "" if self.is_final else ", before rounding,"
        if self.verdict == "does not hold":
            honest = _list(self.honest_if, names)
            far = _at_least(math.sqrt(self.kappa_at_least))
            return (
                f"{head}: if the honest clients were exactly these {len(self.honest_if)} ({honest})"
                f" and all others had lied, the aggregate{rounding} would be {far} times their "
                "spread away from their average; this accuses nobody"
            )
        kappa = self.kappa[self.f]
        far = _at_most(math.sqrt(kappa))
        return (
            f"{head}: {_whichever(self.f, self.n)}, the aggregate's distance{rounding} from the "
            f"average of the honest replies is at most {far} times the spread of those honest "
            "replies, the root of their mean squared distance from it (kappa, its square, is at "
            f"most {_at_most(kappa)} in this round{self._in_advance()})"
        )

    def lines(self, names: Sequence[Any] | None = None) -> list[str]:
        """Say all that is certain, the verdict first; see ``sentence``."""
        lines = [self.sentence(names)]
        if self.survives >= 0:
            lines.append(
                f"for every number of liars up to {self.survives} it is within the limit, "
                f"{self._allowed()}; where more have lied, the aggregate may be anywhere"
            )
        if self.direction == "gradient (statistical)":
            lines.append(
                f"the step points downhill, {_whichever(self.f, self.n)}, unless the average of "
                f"the honest replies missed the true direction by more than "
                f"{self.standard_errors:.3g} standard errors: under Gaussian noise in one "
                f"direction in {self._chance():.2g} % of rounds, and not known for heavy tails; "
                "who lies must have been settled before the replies were computed"
            )
        elif self.direction == "honest mean":
            lines.append(
                f"the step goes towards the average of the honest replies, "
                f"{_whichever(self.f, self.n)}: their inner product is positive; nothing follows "
                "for the gradient"
            )
        elif self.unless:
            lines.append(
                "that the step goes towards the average of the honest replies cannot be confirmed "
                f"without assuming that a client lied of these: {_list(self.unless, names)}"
            )
        return lines

    def _allowed(self) -> str:
        spreads = f"{math.sqrt(self.limit):.3g}"
        return f"{spreads} spread" if spreads == "1" else f"{spreads} spreads"

    def _chance(self) -> float:
        freedom = self.n - self.f - 1
        angle = math.atan(self.standard_errors / math.sqrt(freedom))
        return 100.0 * (1.0 - within(angle, freedom))

    def _in_advance(self) -> str:
        if not self.f:
            return ""
        return (
            "; before the replies are seen, no rule can promise a kappa below "
            f"{least_kappa(self.n, self.f):.3g} for {self.f} of {self.n}"
        )


def least_kappa(n: int, f: int) -> float:
    """Return ``f / (n - 2f)``: no rule can promise a smaller kappa before it sees the replies."""
    return f / (n - 2 * f) if 2 * f < n else math.inf


def limit_of(asked: int, f: int) -> float:
    """Return ``max(1, 2f / (n - 2f))`` for the n clients that are asked, not those that answer.

    Raises
    ------
    ValueError
        Unless ``2f < n``.
    """
    if not 0 <= 2 * f < asked:
        raise ValueError(f"a limit needs 0 <= 2f < n, got n={asked}, f={f}")
    return max(1.0, 2.0 * least_kappa(asked, f))


def rounding_to(dtype: np.dtype[Any], length: float, d: int) -> float:
    """Return how far rounding moves a vector of d coordinates and this length, at most."""
    info = np.finfo(dtype)
    return float(info.eps) / 2.0 * length + float(info.smallest_subnormal) / 2.0 * math.sqrt(d)


def certify(
    points: Points,
    weights: Float64 | None,
    f: int,
    *,
    limit: float,
    heights: Float64 | None = None,
    heights_error: Float64 | float = 0.0,
    rounding: float | None = None,
    standard_errors: float | None = None,
    most_sets: int = MOST_SETS,
    is_brief: bool = False,
) -> Certificate:
    """Certify an aggregate of the replies as they came, before any mixing or clipping.

    Parameters
    ----------
    points : Points
        Of the accepted clients; with the server's rows and the global model where the aggregate
        has a share of them, or a direction is asked for.
    weights : (n,) or (n + s,), or None
        What the aggregate is made of, of any sign: the only row of a choice's mix. What they lack
        of the sum 1 lies on the global model; a sum that is 1 up to rounding counts as 1.
    f : int
        Liars among the accepted that the verdict is to cover.
    limit : float
        The largest kappa with which the verdict is "holds", see `limit_of`.
    heights : (p,), optional
        In the place of weights, for a rule that takes coordinates apart: squared distances of the
        aggregate from all points, in their unit.
    heights_error : (p,) or float
        By how much these may be wrong.
    rounding : float, optional
        How far the model that is sent may be from the mixture, in the models' unit, see
        `rounding_to`; 0 where it is the mixture itself. Without it the certificate says "before
        rounding".
    standard_errors : float, optional
        For the direction; by default the quantile of Student's distribution that Gaussian noise in
        one direction passes in 5 % of rounds.
    most_sets : int
        Numbers of liars with at most so many sets are looked at set by set.
    is_brief : bool
        Whether to look at sets one by one only where the verdict needs it. Figures are then bounds.

    Raises
    ------
    ValueError
        If an argument is out of its range, or they do not fit each other; if the aggregate has a
        share of a global model that is not among the points.
    """
    n = points.n
    if f < 0 or not limit > 0.0 or not (rounding or 0.0) >= 0.0:
        raise ValueError(
            f"expected f >= 0, limit > 0 and rounding >= 0, got f={f}, limit={limit}, {rounding=}"
        )
    nothing = (math.inf,) * ((n + 1) // 2)
    with one_blas_thread(), np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        found = enclose(
            points,
            weights,
            heights=heights,
            heights_error=heights_error,
            rounding=rounding or 0.0,
        )
        if found is None or n < 2:
            reason = "1 reply, 2 are needed" if found else "distances or weights are not finite"
            return Certificate("cannot be known", n, f, limit, nothing, nothing, reason=reason)
        figures = figures_of(found, f, most_sets, limit if is_brief else -math.inf)
        kappa = tuple(figures.kappa.tolist())
        # Up by one float, so that not even a length below the smallest of them is lost.
        radius = np.nextafter(np.sqrt(figures.off) * found.unit, np.inf)
        verdict, at_least, reason = _judged(found, figures, f, limit)
        certificate = Certificate(
            verdict,
            n,
            f,
            limit,
            kappa,
            tuple(np.where(figures.off > 0.0, radius, 0.0).tolist()),
            tuple(figures.exact.tolist()),
            next((k for k, value in enumerate(kappa) if value > limit), len(kappa)) - 1,
            kappa_at_least=at_least,
            honest_if=tuple(figures.worst.tolist()),
            is_final=rounding is not None,
            reason=reason,
        )
        if not found.has_model or found.heights_high[-1] == 0.0 or f >= len(kappa):
            return certificate
        sets = 0 if is_brief else most_sets
        return _with_direction(certificate, found, weights, standard_errors, sets)


def _judged(found: Enclosure, figures: Figures, f: int, limit: float) -> tuple[Verdict, float, str]:
    """Return the verdict, what kappa is at least, and why nothing can be known."""
    n, S = found.n, figures.worst
    if n <= 2 * f:
        refused = f"{n} accepted replies, {f} of them lies: more than {2 * f} are needed"
        return "cannot be known", 0.0, f"{refused}; replies that are refused bring that about"
    at_least = 0.0
    if S.size:
        spread = float(found.high[np.ix_(S, S)].sum()) / (2 * S.size)
        share = float(found.heights_low[S].sum()) / spread
        at_least = max(0.0, share * (1.0 - 4.0 * found.room) - 1.0)
    if figures.kappa[f] <= limit:
        return "holds", at_least, ""
    if at_least > limit:
        return "does not hold", at_least, ""
    between = f"{_at_least(at_least)} and {_at_most(figures.kappa[f])}"
    return "cannot be known", at_least, f"kappa lies between {between}, the limit is {limit:.3g}"


def _with_direction(
    certificate: Certificate,
    found: Enclosure,
    weights: Float64 | None,
    standard_errors: float | None,
    most_sets: int,
) -> Certificate:
    """Return the certificate with what is certain of the step's direction."""
    n, f = found.n, certificate.f
    m = n - f
    step_low, step_high = found.heights_low[-1], found.heights_high[-1]
    # <A - x_t, x_i - x_t>, never too large; sums of it may be rounded.
    sizes = step_high + found.high[-1, :n] + found.heights_high[:n]
    products = 0.5 * (step_low + found.low[-1, :n] - found.heights_high[:n]) - found.room * sizes
    means = np.cumsum(np.sort(products))[::-1][: (n + 1) // 2] / np.arange(n, n // 2, -1)
    progress = means / np.where(means < 0.0, step_low, step_high)
    certificate = replace(certificate, progress=tuple(progress.tolist()))
    if not means[f] > 0.0:
        return replace(certificate, unless=_unless(products, weights, m))
    c = student(m - 1) if standard_errors is None else standard_errors
    certificate = replace(certificate, direction="honest mean", standard_errors=c)
    if m >= 2 and clears(found, products, c * math.sqrt(step_high / (m - 1)), f, most_sets):
        return replace(certificate, direction="gradient (statistical)")
    return certificate


def _unless(products: Float64, weights: Float64 | None, m: int) -> tuple[int, ...]:
    """Return the fewest clients of no weight without which every set of m has positive progress.

    None where already those of some weight allow no progress.
    """
    if weights is None:
        return ()
    order = np.argsort(products, kind="stable")
    left_out = order[weights[order] == 0.0]
    used = order[weights[order] != 0.0]
    for j in range(max(0, m - used.size), min(m, left_out.size) + 1):
        if products[left_out[:j]].sum() + products[used[: m - j]].sum() <= 0.0:
            return tuple(left_out[:j].tolist())
    return ()


def _whichever(f: int, n: int) -> str:
    return f"whichever {f} or fewer of the {n} lied" if f else f"if none of the {n} lied"


def _list(clients: Sequence[int], names: Sequence[Any] | None) -> str:
    return ", ".join(str(i if names is None else names[i]) for i in clients)


def _at_most(value: float) -> str:
    return _rounded(value, ROUND_CEILING)


def _at_least(value: float) -> str:
    return _rounded(value, ROUND_FLOOR)


def _rounded(value: float, way: str) -> str:
    """Return two digits, or more before the point, never on the wrong side of the value."""
    if not math.isfinite(value):
        return str(value)
    if value < 1e-6:
        return "0" if way == ROUND_FLOOR or not value else "0.000001"
    exact = Decimal(value)
    before_point = exact.adjusted() + 1
    if before_point > 6:
        return str(Context(prec=2, rounding=way).create_decimal(exact))
    return f"{Context(prec=max(2, before_point), rounding=way).create_decimal(exact):f}"
