"""What one round did, in a form that can be read, logged and kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from statistics import median
from typing import Any, Self, TypedDict

import numpy as np

from flwr_krum.boundary.metrics import Metric
from flwr_krum.boundary.replies import ClientId, Refused, few
from flwr_krum.certified import RoundCertificate
from flwr_krum.guarantee import Guarantee
from flwr_krum.rules.rule import Aggregate
from flwr_krum.weights import Weighting

LATE_ROUNDS = 3
"""Rounds running in which a client is late before a report warns of it, once."""

_LOOKED_THROUGH = 100
"""Rounds that are looked through for them: not every round asks every client."""


def now() -> str:
    """Return the time as reports have it: ISO 8601 in UTC, so that texts compare as times do."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def is_time(text: str) -> bool:
    """Say whether a text is a time as `now` writes it, to the letter."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return False
    return time.replace(tzinfo=UTC).isoformat(timespec="milliseconds") == text


def time_after(reports: Sequence[RoundReport]) -> str:
    """Return the time, and not before that of the last round, whatever the clock says."""
    return max(now(), reports[-1].time if reports else "")


@dataclass(frozen=True)
class RoundReport:
    """One round of robust aggregation.

    The same replies give the same ``selected`` on any device, and the same bits of everything but
    ``seconds``, ``arrived`` and ``time`` on any number of cores. From device to device scores may
    differ in the sixth digit or later, and the guarantee's figures by less than they are sure of.

    Attributes
    ----------
    server_round : int
        The round t >= 1.
    rule : str
        The rule in force, with its parameters for this round.
    byzantine : int
        The f in force.
    basis : str
        What it rests on, see `flwr_krum.in_force`.
    needed : int, optional
        How many accepted replies the rule needs at this f; None where an older journal does not
        say.
    seed : int, optional
        The seed that the strategy drew for a rule that draws; a resumed run goes on with it.
    received, refused, failed, silent
        Client ids whose replies were accepted; refused, with the reason; came back as an error,
        with its text; were asked and did not answer.
    late : client ids
        Whom a quorum did not wait for: those that had not answered when it closed the round, and
        those that were not asked since they still owe an earlier reply.
    arrived : mapping of client id to seconds
        In the order of arrival: how long after the round was asked a reply was in the server's
        hands, by the server's clock. Empty where clients run in the server's own process.
    fetched_bytes, distinct_bytes : int
        Where replies were fetched object by object (``lane=True``): the bytes of all objects, and
        of these each counted once. 0 where they were fetched whole.
    quarantined : client ids
        Left out of sampling: for earlier refusals, or by the operator's word.
    barred : client ids
        Those of them whom the operator barred, see `flwr_krum.orders`.
    bars : tuple of text
        All whom the operator barred, sampled or not: what a run keeps to where the orders are
        gone. Older journals name those who were sampled.
    doubted : mapping of client id to text
        What was wrong with the metrics of an accepted reply; they were dropped, it was not.
    scores : mapping of client id to score
        Empty where the rule has none.
    selected : client ids, best first
    weights : mapping of client id to weight, of the selected
    weighting : Weighting, optional
        How much the accepted sites count where their weights are declared.
    metrics : mapping of name to number or list
        Trimmed means of what the accepted clients report about themselves.
    dropped : tuple of text
        Which metrics have no mean although several clients report them, and why.
    kept : tuple of keys
        Arrays of the global model that the replies did not hold, and that stayed as they are.
    certificate : RoundCertificate, optional
        What is certain of the aggregate that the model moved to, or was kept from for want of it,
        whoever the liars are.
    guarantee : Guarantee, optional
        What can be said of the paper's condition in this round.
    stepped : bool
        Whether the global model moved.
    optimizer : str
        The server optimiser that moved it by the aggregate, with its parameters; empty where there
        is none, or it did not. ``certificate`` and ``guarantee`` speak of the aggregate.
    steps : mapping of name to number
        Where an optimiser moved the model: the length of the step to the ``aggregate``, that of
        the step ``taken``, their ``ratio`` taken / aggregate, and their ``cosine``. What is no
        finite number is left out.
    note : str
        Why it did not, or what else was out of the ordinary.
    seconds : mapping of stage to seconds
        Own time of each `flwr_krum.kernel.clock.Stage`.
    time : str
        When the round was over, ISO 8601 in UTC; empty where an old journal does not say. Reports
        that differ in nothing else are equal.
    """

    server_round: int
    rule: str
    byzantine: int
    basis: str = "declared"
    needed: int | None = None
    seed: int | None = None
    received: tuple[ClientId, ...] = ()
    refused: tuple[Refused, ...] = ()
    failed: Mapping[ClientId, str] = field(default_factory=dict)
    silent: tuple[ClientId, ...] = ()
    late: tuple[ClientId, ...] = ()
    arrived: Mapping[ClientId, float] = field(default_factory=dict, compare=False)
    fetched_bytes: int = field(default=0, compare=False)
    distinct_bytes: int = field(default=0, compare=False)
    quarantined: tuple[ClientId, ...] = ()
    barred: tuple[ClientId, ...] = ()
    bars: tuple[str, ...] = ()
    doubted: Mapping[ClientId, str] = field(default_factory=dict)
    scores: Mapping[ClientId, float] = field(default_factory=dict)
    selected: tuple[ClientId, ...] = ()
    weights: Mapping[ClientId, float] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    certificate: RoundCertificate | None = None
    guarantee: Guarantee | None = None
    stepped: bool = False
    optimizer: str = ""
    steps: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    weighting: Weighting | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    time: str = field(default_factory=now, compare=False)

    def lines(self) -> list[str]:
        """Return what an operator wants to read after the round."""
        heard = f"{len(self.received)} accepted, {len(self.refused)} refused"
        lines = [f"{self.rule}: {heard}, {len(self.failed)} failed, {len(self.silent)} silent"]
        if self.late:
            lines.append(f"closed without {len(self.late)} late: {_list(self.late)}")
        if self.arrived:
            lines.append(_came(self.arrived.values()))
        if self.fetched_bytes:
            lines.append(
                f"fetched {self.fetched_bytes} bytes of objects, {self.distinct_bytes} of them "
                "distinct"
            )
        if self.basis != "declared":
            lines.append(f"f = {self.byzantine}: {self.basis}")
        if refused := [client for client in self.quarantined if client not in self.barred]:
            lines.append(f"in quarantine: {_list(refused)}")
        if self.barred:
            lines.append(f"barred by the operator: {_list(self.barred)}")
        lines += [f"refused {refused.client}: {refused.reason}" for refused in self.refused]
        lines += [f"failed {client}: {why}" for client, why in self.failed.items()]
        if self.silent:
            lines.append(f"silent: {_list(self.silent)}, who did not answer in time")
        lines += [f"metrics of {client}: {doubt}" for client, doubt in self.doubted.items()]
        lines += self.dropped
        if self.kept:
            lines.append(f"not sent, and kept: {few(self.kept)}")
        if self.selected:
            lines.append(f"selected: {_list(self.selected)}")
        if self.weighting:
            lines += self.weighting.lines(self.byzantine)
        if self.weighting and self.weights:
            made_of = ", ".join(f"{site} {share:.1%}" for site, share in self.weights.items())
            lines.append(f"the aggregate is made of: {made_of}")
        if self.certificate:
            lines.append(self.certificate.sentence())
        if self.guarantee:
            lines.append(self.guarantee.line())
        if self.optimizer:
            lines.append(_moved(self.optimizer, self.steps))
        if self.note:
            lines.append(self.note)
        if not self.stepped:
            lines.append("the global model stays as it is")
        return lines

    @property
    def slack(self) -> int | None:
        """How many accepted replies more there are than the rule needs; negative if too few."""
        return None if self.needed is None else len(self.received) - self.needed

    def guarantee_metrics(self) -> dict[str, float]:
        """Return certificate and guarantee as numbers: 1 holds, 0 does not, -1 cannot be known.

        What is no finite number is left out.
        """
        numbers: dict[str, float] = {}
        if self.certificate is not None:
            numbers["certificate"] = float(_VERDICTS.index(self.certificate.verdict) - 1)
            numbers["certificate-survives"] = float(self.certificate.survives)
            for name in ("kappa", "radius"):
                if math.isfinite(value := getattr(self.certificate, name)):
                    numbers[f"certificate-{name}"] = value
        if self.guarantee is None:
            return numbers
        numbers["guarantee"] = float(_VERDICTS.index(self.guarantee.verdict) - 1)
        if self.guarantee.sin_alpha is not None:
            numbers["sin-alpha"] = self.guarantee.sin_alpha
        return numbers

    @property
    def is_kept_uncertified(self) -> bool:
        """Whether the model stayed because a certificate was required, and did not hold."""
        return self.certificate is not None and not self.stepped

    def is_remarkable(self) -> bool:
        """Say whether an operator should look at the round."""
        lost = self.refused or self.failed or self.silent
        return bool(self.note or lost or self.doubted or self.dropped or not self.stepped)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values: ids keep their types, an infinite score is null."""
        values = dict(vars(self))
        values["certificate"] = self.certificate and self.certificate.to_json()
        values["guarantee"] = self.guarantee and self.guarantee.to_json()
        values["weighting"] = self.weighting and self.weighting.to_json()
        values["refused"] = [[refused.client, refused.reason] for refused in self.refused]
        for name in _BY_CLIENT:
            values[name] = [[client, _finite(value)] for client, value in values[name].items()]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the values are not a report's.
        """
        read = {**_NOT_IN_OLDER_JOURNALS, **values}
        read.setdefault("bars", [str(client) for client in read["barred"]])
        for name, kind in _KINDS.items():
            if not isinstance(read[name], kind):
                raise TypeError(f"{name} is {read[name]!r}, expected {kind.__name__}")
        for name in ("needed", "seed"):
            if not isinstance(read[name], int | None):
                raise TypeError(f"{name} is {read[name]!r}, expected int or null")
        counts = ("server_round", "byzantine", "needed", "seed", "fetched_bytes", "distinct_bytes")
        for name in counts:
            if read[name] is not None and abs(read[name]) > _LARGEST_COUNT:
                raise ValueError(f"{name} is beyond {_LARGEST_COUNT}")
        read["refused"] = tuple(Refused(client, reason) for client, reason in read["refused"])
        for name in _BY_CLIENT:
            read[name] = {
                client: math.inf if value is None else value for client, value in read[name]
            }
        if read["certificate"] is not None:
            read["certificate"] = RoundCertificate.from_json(read["certificate"])
        if read["guarantee"] is not None:
            read["guarantee"] = Guarantee.from_json(read["guarantee"])
        if read["weighting"] is not None:
            read["weighting"] = Weighting.from_json(read["weighting"])
        for name in _CLIENTS:
            read[name] = tuple(read[name])
        for name in ("dropped", "kept"):  # older journals have none
            read[name] = tuple(read.get(name, ()))
        report = cls(**read)
        _check_clients(report)
        return report


_VERDICTS = ("cannot be known", "does not hold", "holds")
_NOT_IN_OLDER_JOURNALS: Mapping[str, Any] = {
    "time": "",
    "basis": "declared",
    "needed": None,
    "seed": None,
    "barred": [],
    "optimizer": "",
    "steps": {},
    "weighting": None,
    "certificate": None,
    "late": [],
    "arrived": [],
    "fetched_bytes": 0,
    "distinct_bytes": 0,
}
_BY_CLIENT = ("failed", "arrived", "doubted", "scores", "weights")
_CLIENTS = ("received", "silent", "late", "quarantined", "barred", "bars", "selected")
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("server_round", "byzantine", "fetched_bytes", "distinct_bytes"), int),
    **dict.fromkeys(("rule", "basis", "optimizer", "note", "time"), str),
    "stepped": bool,
    **dict.fromkeys((*_CLIENTS, *_BY_CLIENT, "refused"), list),
    **dict.fromkeys(("metrics", "seconds", "steps"), dict),
}
"""What the JSON value of a field is."""

_LARGEST_COUNT = 2**63 - 1
"""Seeds are drawn up to it; larger numbers fit no float and no other program's integers."""


_IDS = frozenset((int, str, bool))  # True is an int to whoever names clients
_TEXTS = frozenset((str,))


def _check_clients(report: RoundReport) -> None:
    """Raise TypeError if a report names a client, or says why, by what is no id or no text."""
    for name in (*_CLIENTS, *_BY_CLIENT):
        _check_types(name, getattr(report, name), _IDS)
    _check_types("refused", [refused.client for refused in report.refused], _IDS)
    if certificate := report.certificate:
        _check_types("certificate", (*certificate.honest_if, *certificate.unless), _IDS)
    _check_types("bars", report.bars, _TEXTS)
    _check_types("refused", [refused.reason for refused in report.refused], _TEXTS)
    _check_types("failed", report.failed.values(), _TEXTS)
    _check_types("doubted", report.doubted.values(), _TEXTS)


def _check_types(name: str, values: Collection[object], legal: frozenset[type]) -> None:
    """Raise TypeError, and name the first value that is none of the legal types."""
    if not legal.issuperset(map(type, values)):
        odd = next(value for value in values if type(value) not in legal)
        kinds = " or ".join(sorted(kind.__name__ for kind in legal))
        raise TypeError(f"{name} holds {odd!r}, expected {kinds}")


class Chosen(TypedDict, total=False):
    """What a report says of a rule's choice."""

    selected: tuple[ClientId, ...]
    scores: dict[ClientId, float]
    weights: dict[ClientId, float]


def chosen(aggregate: Aggregate, clients: Sequence[ClientId]) -> Chosen:
    """Return the rule's choice as it stands in a report, with client ids for indices."""
    scores, weights = aggregate.scores, aggregate.weights
    return {
        "selected": tuple(clients[i] for i in aggregate.selected),
        "scores": {} if scores is None else dict(zip(clients, scores.tolist(), strict=True)),
        "weights": (
            {}
            if weights is None
            else {clients[i]: float(weights[i]) for i in np.flatnonzero(weights).tolist()}
        ),
    }


def always_late(reports: Sequence[RoundReport], late: Sequence[ClientId]) -> str:
    """Say who is late for the `LATE_ROUNDS`-th time running; empty where nobody is.

    Parameters
    ----------
    reports : sequence of RoundReport
        The rounds before, oldest first.
    late : sequence of client ids
        The late of the round that follows. Rounds in which they were not asked do not count.
    """
    again = [client for client in late if _times_late(reports, client) == LATE_ROUNDS - 1]
    if not again:
        return ""
    return f"late in {LATE_ROUNDS} rounds running, and left out of the model: {_list(again)}"


def _times_late(reports: Sequence[RoundReport], client: ClientId) -> int:
    """Return in how many rounds running a client was late until now, at most `LATE_ROUNDS`."""
    times = 0
    for report in islice(reversed(reports), _LOOKED_THROUGH):
        refused = (reply.client for reply in report.refused)
        if times == LATE_ROUNDS or client in {*report.received, *report.failed, *refused}:
            break
        times += client in report.late
    return times


def _came(seconds: Collection[float]) -> str:
    """Say when replies came."""
    return (
        f"the replies came within {max(seconds):.3g} s, half of them within {median(seconds):.3g} s"
    )


def _moved(optimizer: str, steps: Mapping[str, float]) -> str:
    """Say how far an optimiser moved the model, and how far the aggregate was."""
    compared = ""
    if "ratio" in steps:
        angle = f", cosine {steps['cosine']:.3g}" if "cosine" in steps else ""
        compared = (
            f", {steps['ratio']:.3g} times as far as the aggregate is ({steps['taken']:.3g} for "
            f"{steps['aggregate']:.3g}{angle})"
        )
    return f"moved by {optimizer}{compared}: certificate and guarantee speak of the aggregate alone"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _list(clients: Sequence[ClientId]) -> str:
    return ", ".join(map(str, clients))
