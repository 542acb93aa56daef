"""What is certain of the aggregate of one round, as its report and its journal keep it.

See `flwr_krum.certificate` for what it says, and what it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np

from flwr_krum.boundary.replies import ClientId
from flwr_krum.certificate import Certificate, Direction, Verdict, certify, limit_of, rounding_to
from flwr_krum.in_force import f_in_force
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.combine import NOTHING
from flwr_krum.kernel.distances import UNIT
from flwr_krum.kernel.enclosure import Points
from flwr_krum.kernel.pairwise import length_at_most
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.rule import Aggregate, Rule

Require: TypeAlias = Literal["certificate"]
"""What a step must have to be taken."""

FACTORS = "the rule saw products of arrays, and a mean of their factors is no mean of products"
"""Why nothing is known of what was mixed from low-rank adapters."""


@dataclass(frozen=True)
class RoundCertificate:
    """What is certain of one round's aggregate, whoever the liars are, with clients by their ids.

    Attributes
    ----------
    verdict : "holds" | "does not hold" | "cannot be known"
        Whether kappa is within the limit.
    n, f : int
        Accepted replies, and the f in force: the liars among them that the verdict covers.
    limit : float
        The largest kappa with which it "holds": fixed before the round.
    kappa, radius : float
        At f; never too small, and infinite where nothing is known.
    survives : int
        The largest number of liars up to which kappa is within the limit; -1 for none.
    progress : float or None
        Never too large; None where it is not known.
    direction : "gradient (statistical)" | "honest mean" | "cannot be known"
    standard_errors : float
    kappa_at_least : float
    honest_if, unless : client ids
    is_final : bool
    reason : str
        As in `flwr_krum.certificate.Certificate`.
    curve : tuple of float
        Kappa for every number of liars 0..(n - 1) // 2, rounded up to four digits.
    """

    verdict: Verdict
    n: int
    f: int
    limit: float
    kappa: float = math.inf
    radius: float = math.inf
    survives: int = -1
    progress: float | None = None
    direction: Direction = "cannot be known"
    standard_errors: float = math.inf
    kappa_at_least: float = 0.0
    honest_if: tuple[ClientId, ...] = ()
    unless: tuple[ClientId, ...] = ()
    is_final: bool = False
    reason: str = ""
    curve: tuple[float, ...] = ()

    @classmethod
    def of(cls, certificate: Certificate, clients: Sequence[ClientId], *, centred: bool) -> Self:
        """Take what a report keeps of a certificate.

        Parameters
        ----------
        certificate : Certificate
        clients : n client ids
        centred : bool
            Whether the global model is known: without it nothing is a step.
        """
        f, fails = certificate.f, certificate.verdict == "does not hold"
        is_legal = f < len(certificate.kappa)
        progress = certificate.progress[f] if certificate.progress and is_legal else math.nan
        return cls(
            verdict=certificate.verdict,
            n=certificate.n,
            f=f,
            limit=certificate.limit,
            kappa=certificate.kappa[f] if is_legal else math.inf,
            radius=certificate.radius[f] if is_legal else math.inf,
            curve=tuple(map(_rounded_up, certificate.kappa)),
            survives=certificate.survives,
            progress=progress if centred and math.isfinite(progress) else None,
            direction=certificate.direction if centred else "cannot be known",
            standard_errors=certificate.standard_errors if centred else math.inf,
            kappa_at_least=certificate.kappa_at_least,
            honest_if=tuple(clients[i] for i in certificate.honest_if) if fails else (),
            unless=tuple(clients[i] for i in certificate.unless) if centred else (),
            is_final=certificate.is_final,
            reason=certificate.reason,
        )

    def sentence(self, names: Mapping[ClientId, object] | None = None) -> str:
        """Say the verdict in one sentence.

        Parameters
        ----------
        names : mapping of client id to name, optional
            What to call clients instead of their ids: those may be personal data.
        """
        return self._certificate().sentence(self._names(names))

    def lines(self, names: Mapping[ClientId, object] | None = None) -> list[str]:
        """Say all that is certain, the verdict first; see ``sentence``."""
        return self._certificate().lines(self._names(names))

    def to_json(self) -> dict[str, Any]:
        """Return what is not as by default, as JSON values."""
        values: dict[str, Any] = {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        if "curve" in values:  # JSON has no infinity
            values["curve"] = [x if math.isfinite(x) else None for x in values["curve"]]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote.

        Raises
        ------
        TypeError, ValueError
            If the values are not a certificate's.
        """
        read = cls(**values)
        if read.verdict not in get_args(Verdict):
            raise ValueError(f"{read.verdict!r} is no verdict of a certificate")
        named = {"honest_if": tuple(read.honest_if), "unless": tuple(read.unless)}
        curve = tuple(math.inf if x is None else x for x in read.curve)
        return cls(**{**values, **named, "curve": curve})

    def _certificate(self) -> Certificate:
        """Return it with clients by their index in ``honest_if``, and in ``unless`` after that."""
        every = len(self.honest_if) + len(self.unless)
        return Certificate(
            self.verdict,
            self.n,
            self.f,
            self.limit,
            (self.kappa,) * (self.f + 1),
            survives=self.survives,
            direction=self.direction,
            standard_errors=self.standard_errors,
            kappa_at_least=self.kappa_at_least,
            honest_if=tuple(range(len(self.honest_if))),
            unless=tuple(range(len(self.honest_if), every)),
            is_final=self.is_final,
            reason=self.reason,
        )

    def _names(self, names: Mapping[ClientId, object] | None) -> list[object]:
        clients = (*self.honest_if, *self.unless)
        return [client if names is None else names[client] for client in clients]


def is_certified(certificate: bool | None, require: Require | None) -> bool:
    """Say whether rounds are certified: where it is asked for, or required.

    Raises
    ------
    ValueError
        If no such thing can be required, or a certificate is, and declined.
    """
    if require not in (None, *get_args(Require)):
        raise ValueError(f"require must be None or one of {get_args(Require)}, got {require!r}")
    if require == "certificate" and certificate is not None and not certificate:
        raise ValueError(
            f"require={require!r} needs certificates, and certificate={certificate!r} makes none: "
            "leave out one of them"
        )
    return bool(certificate) or require == "certificate"


def unmet(certificate: RoundCertificate) -> str:
    """Say why a step that must be certified is not taken; empty if it is.

    Only "holds" will do. Whoever can have a reply refused could otherwise bring about that nothing
    can be known, and be free.
    """
    if certificate.verdict == "holds":
        return ""
    return f'require="certificate": it {certificate.verdict}, and the step is not taken'


def limit_before(rule: Rule, asked: int) -> float:
    """Return the limit of a round: that of the clients who are asked and of the declared f.

    It is fixed before they answer: neither refusals nor silence raise it.
    """
    declared = f_in_force(rule, asked, 0, asked).f
    return limit_of(asked, declared) if 2 * declared < asked else 1.0


def certified(
    aggregate: Aggregate,
    updates: ClientUpdates,
    clients: Sequence[ClientId],
    f: int,
    limit: float,
    *,
    is_sent: bool = True,
) -> RoundCertificate:
    """Certify what a rule made of a round's accepted updates.

    A rule that weighs clients costs n x n work, on the distances that it decided by; one that asked
    for none, such as the average, has them taken here. One that sorts coordinates costs another
    pass for the distances of the aggregate from every client: n d, beside n^2 d for the others.

    Parameters
    ----------
    aggregate : Aggregate
    updates : ClientUpdates
        What it was made of.
    clients : n client ids
    f : int
        Liars to reckon with: the f in force.
    limit : float
        See `flwr_krum.certificate.limit_of`.
    is_sent : bool
        Whether nothing rounds the aggregate further, as for a model in bfloat16.
    """
    geometry, choice = aggregate.geometry, aggregate.choice
    n = geometry.n
    seen = updates.float_layers if updates.measured is None else updates.measured
    layers = [aggregate.layers[i] for i in seen]
    if choice.window is not None:
        points = geometry.clients(np.zeros(n))
        heights, error = geometry.squared_from(aggregate.layers, points.scale)
        found = certify(
            points,
            None,
            f,
            limit=limit,
            heights=heights,
            heights_error=error,
            rounding=0.0 if is_sent else None,
            is_brief=True,
        )
        return RoundCertificate.of(found, clients, centred=updates.reference is not None)
    row = choice.mix[0]
    is_one = np.count_nonzero(row) == 1 and abs(1.0 - row.max()) <= NOTHING
    if updates.products and not is_one:
        return RoundCertificate("cannot be known", n, f, limit, reason=FACTORS)
    rest = abs(1.0 - math.fsum(row.tolist()))
    beside = bool(row[n:].any()) or rest > NOTHING
    points, weights = (geometry.points(), row) if beside else (geometry.clients(row[:n]), row[:n])
    rounding: float | None = 0.0
    if is_sent and not (is_one and all(layer.dtype.itemsize >= 4 for layer in layers)):
        d = sum(layer.size for layer in layers)
        coarsest = max((layer.dtype for layer in layers), key=lambda dtype: np.finfo(dtype).eps)
        length = length_at_most(layers)
        rounding = rounding_to(coarsest, length, d) + _of_sums(weights, rest, points, length)
        rounding = rounding if math.isfinite(rounding) else None
    found = certify(
        points, weights, f, limit=limit, rounding=rounding if is_sent else None, is_brief=True
    )
    return RoundCertificate.of(found, clients, centred=updates.reference is not None)


def _rounded_up(value: float) -> float:
    """Return four digits of a number, which is not smaller."""
    if not math.isfinite(value) or value == 0.0:
        return value
    digits, _, exponent = f"{value:.3e}".partition("e")
    head, unit = int(digits.replace(".", "")), int(exponent) - 3
    up = float(f"{head}e{unit}")
    up = up if up >= value else float(f"{head + 1}e{unit}")
    return up if up >= value else math.nextafter(up, math.inf)


def _of_sums(weights: Float64, rest: float, points: Points, length: float) -> float:
    """Return how far float64 sums of all that was mixed are from the mixture, at most.

    ``(p + 8) u sum_i |w_i| ||x_i||``: of these no length is known, but that of the aggregate is,
    and none is farther from it than ``sum_j |w_j| max D^(1/2)``.
    """
    size = float(np.abs(weights).sum()) + rest
    used = np.flatnonzero(weights)
    with np.errstate(over="ignore", invalid="ignore"):
        far = math.sqrt(float((points.squared + points.error)[used].max())) / points.scale
    return 2.0 * (len(points.squared) + 8) * UNIT * size * (length + size * far)
