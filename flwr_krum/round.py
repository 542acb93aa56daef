"""One round of robust aggregation, without either of Flower's APIs.

Replies in, new global model and report out. Both strategies are thin because this is the one
place where a round happens.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, TypedDict, get_args

from flwr_krum.boundary.intake import Intake, admit
from flwr_krum.boundary.npy import encode
from flwr_krum.boundary.quarantine import Quarantine
from flwr_krum.boundary.replies import ClientId, Reply, client_order, few, on_one_line
from flwr_krum.boundary.root import Root
from flwr_krum.boundary.template import Keys, Model, Template, check_keys
from flwr_krum.certified import (
    Require,
    RoundCertificate,
    certified,
    is_certified,
    limit_before,
    unmet,
)
from flwr_krum.checks import whole_number
from flwr_krum.claimed import Claimed, examine
from flwr_krum.fitted import Fitted, fit, liars_among
from flwr_krum.guarantee import Guarantee, judge
from flwr_krum.in_force import InForce, f_in_force
from flwr_krum.journal import Journal, JournalLike, as_journal
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.clock import stage, timed
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.kernel.ways import prepare
from flwr_krum.log import conclusion, tree
from flwr_krum.moments import Moments, OptimizerState
from flwr_krum.optimizers import ServerOptimizer
from flwr_krum.recorded import DistancesFile, RecordedRound
from flwr_krum.report import RoundReport, chosen
from flwr_krum.rules.rule import Aggregate, Rule
from flwr_krum.server_rows import ServerRows
from flwr_krum.space import LowRank, check_space
from flwr_krum.step import LARGEST_STEP, LearningRate, ServerStep
from flwr_krum.weights import DEFAULT_CAP, DeclaredWeights

OnInfeasible: TypeAlias = Literal["skip", "raise", "degrade"]


class RoundOptions(TypedDict, total=False):
    """The arguments of Rounds that the strategies of both APIs hand on to it."""

    server_learning_rate: LearningRate
    server_optimizer: ServerOptimizer | None
    server_optimizer_state: OptimizerState | None
    server_last_step: Mapping[str, Array] | None
    on_infeasible: OnInfeasible
    quarantine: int | None
    journal: JournalLike | None
    rounds_done: int
    device: str
    largest_step: float | None
    shared_keys: Keys | None
    distance_keys: Keys | None
    space: LowRank | None
    max_reply_bytes: int | None
    root: Root | None
    weights: Mapping[ClientId, float] | None
    weight_cap: float | None
    certificate: bool | None
    require: Require | None
    distances: str | Path | None


REPORTS_KEPT = 10_000
"""Reports kept in memory; older ones are dropped."""


class InfeasibleRoundError(ValueError):
    """Too few replies for the rule's requirement, and ``on_infeasible`` is "raise"."""


class _Step(NamedTuple):
    """What a rule made of a round; no model, and a note, where the step is not taken."""

    aggregate: Aggregate
    guarantee: Guarantee
    model: dict[str, bytes] | None
    note: str
    moments: Moments | None = None
    steps: Mapping[str, float] = MappingProxyType({})
    last_step: Model | None = None

    def not_taken(self, why: str) -> _Step:
        """Return what is left of a step that is not taken, for whatever reason."""
        return _Step(self.aggregate, self.guarantee, None, _together(self.note, why))


@dataclass
class Rounds:
    """The rounds of one federation: its rule, its global model and its reports.

    Parameters
    ----------
    rule : Rule
        With the f that the operator declares.
    on_infeasible : "skip" | "raise" | "degrade" (default: "skip")
        When too few replies are left for the rule: keep the model, raise InfeasibleRoundError, or
        go on without the bound on f.
    server_learning_rate : float or callable, round -> float (default: 1.0)
        ``x_{t+1} = x_t + rate(t) (aggregate - x_t)``.
    server_optimizer : flwr_krum.optimizers.ServerOptimizer (optional)
        Moves the model by what it remembers of the steps to the aggregates, such as
        ``FedAdam(eta=0.01)``; it has a rate of its own.
    server_optimizer_state : mapping of name to array (optional)
        To go on with ``rounds_done``: the ``optimizer_state`` that was saved with that round's
        model. "fresh" goes on as if there had been no round.
    server_last_step : mapping of name to array (optional)
        To go on with ``rounds_done`` and a rule that measures from the last step: the
        ``last_step`` that was saved with that round's model. Without it the first round measures
        from the global model, and its report says so.
    quarantine : int (optional)
        Leave a client out of sampling after so many refused replies, as long as enough clients
        for the rule remain.
    journal : str or Path or Journal (optional)
        File that gets one JSON line per round, on the disk before the next one begins. A
        `flwr_krum.journal.Journal` is one that is open, after as many rounds.
    largest_step : float (optional)
        A step longer than so many times the median length of the accepted updates is not taken;
        math.inf takes any. It is the aggregate's step that is measured, before an optimizer's. By
        default 10 for rules that promise no bound (averaging, 1-p Krum, DnC), no limit for the
        others.
    rounds_done : int (default: 0)
        Go on after so many rounds, with that round's model as the initial one and the same
        journal: rounds count on from there, in every function of the round and in what the
        clients are sent.
    device : str (default: "cpu")
        Where the arithmetic happens: "cpu" is the fastest way that is installed, "cpu:numpy" and
        "cpu:numba" name one, "cuda" is a GPU. The selection is the same.
    count_key : str
        The metric in which clients claim their number of examples.
    shared_keys : list of keys or callable, key -> bool (optional)
        The arrays that travel from the clients; the others stay as they are. By default all, or
        the subset of the model's keys that the replies agree on. ``aggregate_fit`` has no names:
        its keys are positions, and replies hold the shared arrays in their order.
    distance_keys : list of keys or callable, key -> bool (optional)
        The float arrays that distances are taken over; all arrays are combined. By default all.
    space : flwr_krum.space.LowRank (optional)
        Pairs of these that distances see as their products, such as LoRA's B A. For rules that
        weigh clients; the result is a mean of the arrays all the same.
    max_reply_bytes : int (optional)
        A larger reply is refused unread; by default all numbers of the model in 64 bits and a MiB.
    root : callable, list of arrays -> list of arrays (optional)
        For rules that ask for a model of the server's own, such as FLTrust: makes it of the global
        one, on clean data. Called once a round, before the clients are asked; what it returns must
        fit the global model as a client's reply must.
    weights : mapping of client id to number (optional)
        How large each site is, by the operator's word: for rules that have a definition with
        weights, such as ``MultiKrum(f=1)``. Who is not named is refused. By default all count
        alike.
    weight_cap : float, 0 < weight_cap < 0.5, or None (default: 0.25)
        The weights of a round's accepted sites are cut so that the f heaviest hold at most this
        share; None cuts nothing, and one site may then hold most of the model.
    certificate : bool (optional)
        Say in every report what is certain of the aggregate whoever the liars are, see
        `flwr_krum.certificate`; it takes n x n work, and the distances between all replies where
        the rule needs none. By default where it is required.
    require : "certificate" (optional)
        Keep the model in every round whose certificate does not say "holds", also where it cannot
        be known. Liars can bring that about, in every round with a rule that has no coefficient,
        such as averaging; with one whose coefficient is above the limit nothing rules it out; and
        refusals may leave too few replies for f. They stop the learning then, and do not steer it.
    distances : str or Path (optional)
        File that gets, for each round in which the rule chose, who was how far from whom: other
        rules can then be judged on the same replies, see `flwr_krum.recorded`. It takes the inner
        products between all replies where the rule needs none, and some 7 kB a round of 20 clients,
        growing as n^2. Not with ``space``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or root is missing or of no use to the rule, or weights
        are, or both server_learning_rate and server_optimizer are set; JournalError if the journal
        holds another run, FileError if the file of distances does; OptimizerStateError,
        LastStepError if rounds are done and the state, or the last step, is not theirs.
    """

    rule: Rule
    on_infeasible: OnInfeasible = "skip"
    server_learning_rate: LearningRate = 1.0
    quarantine: int | None = None
    journal: JournalLike | None = None
    rounds_done: int = 0
    device: str = "cpu"
    largest_step: float | None = None
    count_key: str = "num-examples"
    shared_keys: Keys | None = None
    distance_keys: Keys | None = None
    space: LowRank | None = None
    max_reply_bytes: int | None = None
    root: Root | None = None
    weights: Mapping[ClientId, float] | None = None
    weight_cap: float | None = DEFAULT_CAP
    certificate: bool | None = None
    require: Require | None = None
    distances: str | Path | None = None
    server_optimizer: ServerOptimizer | None = None
    server_optimizer_state: OptimizerState | None = None
    server_last_step: Mapping[str, Array] | None = None
    template: Template | None = field(default=None, init=False)
    asked: tuple[ClientId, ...] = field(default=(), init=False)
    quarantined: tuple[ClientId, ...] = field(default=(), init=False)
    reports: deque[RoundReport] = field(init=False)
    _quarantine: Quarantine = field(init=False)
    _journal: Journal | None = field(default=None, init=False)
    _distances: DistancesFile | None = field(default=None, init=False)
    _seed: int | None = field(default=None, init=False)
    _server_rows: ServerRows = field(init=False)
    _weights: DeclaredWeights = field(init=False)
    _server_step: ServerStep = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise TypeError(f"rule must be a flwr_krum rule such as Krum(f=1), got {self.rule!r}")
        if self.on_infeasible not in get_args(OnInfeasible):
            raise ValueError(
                f"on_infeasible must be one of {get_args(OnInfeasible)}, got {self.on_infeasible!r}"
            )
        self._server_step = ServerStep(self.server_learning_rate, self.server_optimizer)
        self.certificate = is_certified(self.certificate, self.require)
        if self.quarantine is not None:
            whole_number("quarantine", self.quarantine, 1)
        whole_number("rounds_done", self.rounds_done, 0)
        if self.largest_step is not None and not self.largest_step > 0.0:
            raise ValueError(f"largest_step must be a number > 0, got {self.largest_step!r}")
        self.shared_keys = check_keys("shared_keys", self.shared_keys)
        self.distance_keys = check_keys("distance_keys", self.distance_keys)
        check_space(self.space, self.rule)
        if self.max_reply_bytes is not None:
            whole_number("max_reply_bytes", self.max_reply_bytes, 1)
        self._server_rows = ServerRows(self.rule, self.root)
        self._weights = DeclaredWeights(self.rule, self.weights, self.weight_cap)
        prepare(self.device)
        if self.journal is not None:
            self._journal = as_journal(self.journal, self.rounds_done)
            self._journal.check_rule(str(self.rule))
            self._journal.check_weights(self._weights)
        if self.distances is not None:
            if self.space is not None:
                raise ValueError(
                    "distances and space are both set: leave out one of them; a mean of factors is "
                    "no mean of products, and no rule's mixture could be judged by the distances"
                )
            self._distances = DistancesFile(self.distances, self.rounds_done)
        past = self._journal.reports if self._journal else None
        self._server_step.go_on(self.server_optimizer_state, self.rounds_done, past)
        done = past or []
        moved_in = max((r.server_round for r in done if r.stepped), default=0)
        self._server_rows.go_on(self.server_last_step, self.rounds_done, moved_in if done else None)
        self.reports = deque(done, maxlen=REPORTS_KEPT)
        self._draw_seed(done[-1].seed if done else None)
        self._quarantine = Quarantine(self.quarantine)
        for report in done:
            self._quarantine.note(report.refused, len(report.received))

    def _draw_seed(self, before: int | None) -> None:
        """Give a rule that draws a seed that no client knows: the journal's, or a new one."""
        seed = secrets.randbits(63) if before is None else before
        seeded = self.rule.seeded(seed)
        self._seed = None if seeded == self.rule else seed
        self.rule = seeded

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the optimizer remembers, as arrays by name; empty without one."""
        return self._server_step.moments.to_arrays() if self.server_optimizer else {}

    @property
    def last_step(self) -> dict[str, Array]:
        """The last step, as arrays by name; empty where the rule does not measure from it."""
        return self._server_rows.last_step

    def summary(self, name: str) -> list[str]:
        """Return the settings as the first branch of a strategy's summary, in Flower's style."""
        rule = f"Rule: {self.rule}"
        if self.rule.f == 0 and self.rule.bears_liars:
            rule += ", which tolerates no Byzantine client: f=0 was declared"
        settings = [
            rule,
            f"When infeasible: {self.on_infeasible}",
            str(self._server_step),
            f"Quarantine: {f'after {self.quarantine} refusals' if self.quarantine else 'off'}",
            f"Journal: {self._journal.path if self._journal else 'none'}",
            f"Device: {self.device}",
            f"Keys that travel: {_told(self.shared_keys, 'all, or what the replies agree on')}",
            f"Keys in distances: {_told(self.distance_keys, 'all float arrays')}",
            f"Distances between: {self.space or 'arrays as they are'}",
            f"Largest reply: {self.max_reply_bytes or 'every number in 64 bits, and a MiB'}",
            str(self._weights),
            f"Certificate: {self._certificate_told()}",
            f"Model of the server's own: {'made each round' if self.root else 'none'}",
        ]
        return [f"\t├──> {name} settings:", *(f"\t│{line}" for line in tree(settings))]

    def _certificate_told(self) -> str:
        if self.require:
            return "each round, and the model stays where it does not hold or cannot be known"
        return "each round" if self.certificate else "none"

    def conclusion(self) -> list[str]:
        """Return what is to be said at the end of a run, in Flower's style."""
        return tree(conclusion(self.reports))

    def go_on(self) -> None:
        """Count on from the last round, where a strategy is started again."""
        if self.reports:
            self.rounds_done = max(self.rounds_done, self.reports[-1].server_round)

    def begin(self, model: Model, sampled: Iterable[ClientId]) -> frozenset[ClientId]:
        """Begin a round: remember the global model and who is asked.

        Raises
        ------
        ValueError
            If the model has nothing that ``shared_keys`` or ``distance_keys`` name, or no floats,
            or ``space`` a pair without a product; a RootError if ``root`` returns no model that
            fits, an OptimizerStateError or a LastStepError if what was given back does not.

        Returns
        -------
        frozenset of client ids
            The sampled clients that stay in quarantine: they are not to be asked. Never so many
            that the rule could not run on the others.
        """
        ordered = sorted(sampled, key=client_order)
        spare = len(ordered) - max(self.rule.least_clients, self.least_clients)
        self.quarantined = self._quarantine.among(ordered, spare)
        self.asked = tuple(client for client in ordered if client not in self.quarantined)
        self.template = Template.of(model, self.shared_keys, self.distance_keys, self.space)
        self._server_step.moments.check(self.template.formats)
        self._server_rows.begin(self.template)
        return frozenset(self.quarantined)

    @property
    def least_clients(self) -> int:
        """The smallest number of replies of which f can be held under the cap of weights."""
        return self._weights.least_clients

    @property
    def most_bytes(self) -> float:
        """The size of the largest reply that is read."""
        if self.max_reply_bytes is not None:
            return self.max_reply_bytes
        return math.inf if self.template is None else self.template.largest_reply

    def finish(
        self,
        server_round: int,
        replies: Sequence[Reply],
        failed: Mapping[ClientId, str] | None = None,
        veto: str = "",
    ) -> tuple[dict[str, bytes] | None, RoundReport]:
        """Aggregate the replies of one round.

        Parameters
        ----------
        server_round : int
        replies : sequence of Reply
        failed : mapping of client id to text, optional
            Clients that came back as an error.
        veto : str
            Why the model is to stay as it is, whatever came; empty if it is not.

        Returns
        -------
        model : dict of key to npy bytes, or None
            The new global model; None keeps the old one. A single client's model that becomes
            the global one is not encoded anew.
        report : RoundReport
            Also appended to ``reports``.

        Raises
        ------
        InfeasibleRoundError
            Only with ``on_infeasible="raise"``.
        ValueError
            If no global model is known and a server learning rate other than 1 is set, an
            optimizer, or keys.
        Exception
            What a rule or a learning rate of the operator's own raises; the report says it as well.
        """
        failed = failed or {}
        named = (self.shared_keys, self.distance_keys, self.space, self.distances)
        if self.template is None and named != (None, None, None, None):
            raise ValueError(
                "shared_keys, distance_keys, space and distances need the global model: "
                "let the strategy configure the round"
            )
        with timed() as clock, one_blas_thread():
            liars = liars_among(self.rule, len({reply.client for reply in replies}))
            intake = admit(self._weights.refusing(replies), self.template, self.device, liars)
            with stage("metrics"):
                claimed = self.examine(replies, intake.clients)
            in_force = self._in_force(intake)
            degrades = self.on_infeasible == "degrade"
            fitted = fit(self.rule, self._weights, intake.clients, in_force.f, degrades=degrades)
            heard = {reply.client for reply in replies} | set(failed)
            step, failure = None, None
            if not veto:
                step, failure = self._try_step(fitted, intake, server_round)
            limit = limit_before(self.rule, len(self.asked) or len(heard))
            certificate = self._certify(step, intake, in_force.f, limit)
            if step and certificate and self.require and (why := unmet(certificate)):
                step = step.not_taken(why)
            self._record(server_round, step, intake, in_force.f, limit)
        report = RoundReport(
            server_round=server_round,
            rule=str(fitted.rule),
            byzantine=in_force.f,
            basis=in_force.basis,
            seed=self._seed,
            received=intake.clients,
            refused=intake.refused,
            failed=failed,
            silent=tuple(client for client in self.asked if client not in heard),
            quarantined=self.quarantined,
            doubted={**self._weights.doubts(claimed.counts), **claimed.doubted},
            metrics=claimed.metrics,
            dropped=claimed.dropped,
            kept=intake.kept,
            weighting=fitted.weighting,
            **({} if step is None else chosen(step.aggregate, intake.clients)),
            certificate=certificate,
            guarantee=None if step is None else step.guarantee,
            stepped=step is not None and step.model is not None,
            optimizer="" if step is None or step.moments is None else str(self.server_optimizer),
            steps={} if step is None else dict(step.steps),
            note=veto
            or _together(_failed(failure), fitted.obstacle, "" if step is None else step.note),
            seconds=clock.seconds,
        )
        self._keep(report)
        if failure is not None:
            raise failure
        if fitted.obstacle and not veto and self.on_infeasible == "raise":
            raise InfeasibleRoundError(f"round {server_round}: {fitted.obstacle}")
        if step is not None:
            self._server_step.moments = step.moments or self._server_step.moments
            self._server_rows.remember(step.last_step, server_round)
        return None if step is None else step.model, report

    def _in_force(self, intake: Intake) -> InForce:
        """Return the f in force; what clients send that were not asked decides nothing."""
        refused = self._weights.of_sites(refusal.client for refusal in intake.refused)
        counted = refused.intersection(self.asked) if self.asked else refused
        return f_in_force(self.rule, len(intake.clients), len(counted), len(self.asked))

    def _try_step(
        self, fitted: Fitted, intake: Intake, server_round: int
    ) -> tuple[_Step | None, Exception | None]:
        """Take the step, if the rule may run; return what the operator's own code raised."""
        if intake.updates is None or not fitted.runs:
            return None, None
        try:
            updates = self._server_rows.beside(intake.updates, intake.keys, self.template)
            return self._step(fitted, updates, intake, server_round), None
        except Exception as error:  # a rule or a rate of the operator's own
            return None, error

    def _step(
        self, fitted: Fitted, updates: ClientUpdates, intake: Intake, server_round: int
    ) -> _Step:
        """Let the rule choose, judge the guarantee, and take the step."""
        rule, reference = fitted.rule, updates.reference
        missing = self._server_rows.note
        shares = None if fitted.weighting is None else fitted.weighting.counting
        with stage("rule"):
            aggregate = rule(updates, server_round=server_round, shares=shares)
        with stage("guarantee"):
            guarantee = judge(rule, aggregate, updates.n, centred=reference is not None)
        weights = aggregate.weights
        if reference is None and weights is not None and not weights.any():
            # All lies on the global model, and nobody knows where that is.
            return _Step(aggregate, guarantee, None, aggregate.choice.note)
        with stage("combine"):
            step = self._server_step.towards(
                aggregate.layers, updates, intake.keys, server_round, self._limit(rule)
            )
        if step.problem:
            note = _together(aggregate.choice.note, missing, step.problem)
            return _Step(aggregate, guarantee, None, note)
        # What may be encoded already: the reply of the one client that was chosen.
        source = intake.encoded[aggregate.selected[0]] if len(aggregate.selected) == 1 else {}
        with stage("encode"):
            changed = dict(zip(intake.keys, step.layers, strict=True))
            whole = changed if self.template is None else self.template.completed(changed)
            model = {key: encode(array, source.get(key)) for key, array in whole.items()}
        last = self._server_rows.step_to(updates, intake.keys, aggregate.layers)
        note = _together(aggregate.choice.note, missing)
        return _Step(aggregate, guarantee, model, note, step.moments, step.compared, last)

    def _certify(
        self, step: _Step | None, intake: Intake, f: int, limit: float
    ) -> RoundCertificate | None:
        """Say what is certain of the aggregate that the model moved to, or towards."""
        if not self.certificate or step is None or step.model is None or intake.updates is None:
            return None
        is_sent = self.template is None or not self.template.narrows
        with stage("certificate"):
            return certified(
                step.aggregate, intake.updates, intake.clients, f, limit, is_sent=is_sent
            )

    def _record(
        self, server_round: int, step: _Step | None, intake: Intake, f: int, limit: float
    ) -> None:
        """Keep the distances of a round in which the rule chose; before the journal has it.

        A round without distances would be a gap, one without a report is dropped by who goes on.
        """
        if self._distances is not None and step is not None:
            clients = intake.clients
            self._distances.append(
                RecordedRound.of(server_round, step.aggregate, clients, f, limit)
            )

    def _limit(self, rule: Rule) -> float:
        """Return the largest step of a rule: the operator's, or what its kind needs."""
        if self.largest_step is not None:
            return self.largest_step
        return math.inf if rule.is_bounded else LARGEST_STEP

    def examine(self, replies: Sequence[Reply], clients: Iterable[ClientId]) -> Claimed:
        """Aggregate what the given clients report about themselves, and say what is wrong."""
        return examine(replies, clients, self.count_key, partial(liars_among, self.rule))

    def _keep(self, report: RoundReport) -> None:
        self._quarantine.note(report.refused, len(report.received))
        self.reports.append(report)
        if self._journal:
            self._journal.append(report)


def _failed(error: Exception | None) -> str:
    """Say what the operator's own rule or rate raised; empty if it did not."""
    return "" if error is None else f"{type(error).__name__}: {on_one_line(error)}"


def _together(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _told(keys: Keys | None, default: str) -> str:
    if keys is None:
        return default
    return "a function of the key" if callable(keys) else few([str(key) for key in keys])
