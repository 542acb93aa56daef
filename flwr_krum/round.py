"""One round of robust aggregation, without either of Flower's APIs.

Replies in, new global model and report out. Both strategies are thin because this is the one
place where a round happens.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from flwr_krum.boundary.early import Early, is_worth_it
from flwr_krum.boundary.intake import Intake, admit, keys_of
from flwr_krum.boundary.messages import Limits
from flwr_krum.boundary.npy import encode
from flwr_krum.boundary.quorum import Quorum, as_quorum
from flwr_krum.boundary.replies import ClientId, Reply, client_order, in_a_sentence
from flwr_krum.boundary.spill import Spill
from flwr_krum.boundary.template import Model, Template
from flwr_krum.certified import (
    RoundCertificate,
    certified,
    limit_before,
    unmet,
)
from flwr_krum.claimed import Claimed, examine
from flwr_krum.fitted import Fitted, fit, liars_among
from flwr_krum.guarantee import Guarantee, judge
from flwr_krum.in_force import InForce, check_quorum, f_in_force, quorum_in_force
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.clock import stage, timed
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.kernel.ways import prepare, warm_up
from flwr_krum.ledger import Called, Ledger
from flwr_krum.log import conclusion, tree
from flwr_krum.moments import Moments
from flwr_krum.recorded import RecordedRound
from flwr_krum.report import RoundReport, always_late, chosen
from flwr_krum.rules.rule import Aggregate, Rule
from flwr_krum.server_rows import ServerRows
from flwr_krum.settings import RoundSettings
from flwr_krum.step import LARGEST_STEP, ServerStep
from flwr_krum.weights import DeclaredWeights

NOT_KEPT = "its reply, and all others, could not be kept"
"""Why a reply is not taken in that nothing is wrong with."""


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


class _Judged(NamedTuple):
    """What a round's replies came to, and what the operator's own rule or rate raised."""

    intake: Intake
    claimed: Claimed
    in_force: InForce
    fitted: Fitted
    step: _Step | None
    failure: Exception | None
    certificate: RoundCertificate | None

    @property
    def note(self) -> str:
        """Why the model did not move, or what else was out of the ordinary."""
        failed = "" if self.failure is None else in_a_sentence(self.failure)
        return _together(failed, self.fitted.obstacle, "" if self.step is None else self.step.note)


@dataclass
class Rounds(RoundSettings):
    """The rounds of one federation: its rule, its global model and its reports.

    Takes what `RoundSettings` takes, and refuses what it refuses.

    Raises
    ------
    TypeError, ValueError
        If root is missing or of no use to the rule, or weights are, or both server_learning_rate
        and server_optimizer are set; if the quorum is too small for the rule, or for weights;
        JournalError if the journal holds another run, FileError if the file of distances does;
        OptimizerStateError, LastStepError if rounds are done and the state, or the last step, is
        not theirs.
    """

    template: Template | None = field(default=None, init=False)
    called: Called = field(default=Called(), init=False)
    kept_by: Spill | None = field(default=None, init=False)
    early: Early | None = field(default=None, init=False)
    _is_early: bool = field(default=False, init=False)
    """Whether the last step took distances that can be had while replies are on their way."""

    _ledger: Ledger = field(init=False)
    _seed: int | None = field(default=None, init=False)
    _server_rows: ServerRows = field(init=False)
    _weights: DeclaredWeights = field(init=False)
    _server_step: ServerStep = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._server_step = ServerStep(self.server_learning_rate, self.server_optimizer)
        self._server_rows = ServerRows(self.rule, self.root)
        self._weights = DeclaredWeights(self.rule, self.weights, self.weight_cap)
        if isinstance(self.quorum, Quorum):
            check_quorum(self.quorum.least, self.rule, self.least_clients)
        prepare(self.device)
        if self.memory is not None and self.spill is not None:
            self.kept_by = Spill(self.memory, self.spill)
        self._ledger = Ledger(self, self._weights)
        past = self._ledger.past
        self._server_step.go_on(self.server_optimizer_state, self.rounds_done, past)
        done = past or ()
        moved_in = max((r.server_round for r in done if r.stepped), default=0)
        self._server_rows.go_on(self.server_last_step, self.rounds_done, moved_in if done else None)
        self._draw_seed(done[-1].seed if done else None)

    @property
    def reports(self) -> deque[RoundReport]:
        """What each round did, oldest first."""
        return self._ledger.reports

    def _draw_seed(self, before: int | None) -> None:
        """Give a rule that draws a seed that no client knows: the journal's, or a new one."""
        seed = secrets.randbits(63) if before is None else before
        seeded = self.rule.seeded(seed)
        self._seed = None if seeded == self.rule else seed
        self.rule = seeded

    @property
    def asked(self) -> tuple[ClientId, ...]:
        """Who is asked in this round."""
        return self.called.asked

    @property
    def quarantined(self) -> tuple[ClientId, ...]:
        """Who was sampled and is not, for earlier refusals or by the operator's word."""
        return self.called.quarantined

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
        settings = self.in_words(self._server_step, self._weights, str(self._ledger))
        return [f"\t├──> {name} settings:", *(f"\t│{line}" for line in tree(settings))]

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
            The sampled clients that are not to be asked: those whom the operator barred, and those
            in quarantine for their refusals. The latter are never so many that the rule could not
            run on the others; the operator is obeyed, and a rule without replies moves no model.
            Or all, where ``problem`` says why.
        """
        least = max(self.rule.least_clients, self.least_clients)
        self.called = self._ledger.call(sampled, least)
        self.template = Template.of(model, self.shared_keys, self.distance_keys, self.space)
        self._server_step.moments.check(self.template.formats)
        self._server_rows.begin(self.template)
        self.early = None
        if self._is_early and is_worth_it(self.template, self.device, len(self.asked)):
            quorum = self.quorum.least if isinstance(self.quorum, Quorum) else len(self.asked)
            self.early = Early(self.template, self.device, min(quorum, len(self.asked)))
        if self.kept_by is not None and self._finds_no_room(self.kept_by, self.template):
            everybody = frozenset((*self.asked, *self.quarantined))
            self.called = self.called._replace(asked=())
            return everybody
        return frozenset(self.quarantined)

    def _finds_no_room(self, spill: Spill, template: Template) -> bool:
        """Open the file of a round, and say whether it cannot take what liars may send as well."""
        liars = liars_among(self.rule, len(self.asked))
        spill.begin(template.usual_reply, self.limits, len(self.asked) - liars, liars)
        return bool(spill.problem)

    @property
    def problem(self) -> str:
        """Why the round's replies cannot be kept, and the model stays; empty if they can."""
        return self.kept_by.problem if self.kept_by else ""

    def bars(self, client: ClientId) -> bool:
        """Say whether the operator has barred a client, as of the beginning of the round."""
        return self._ledger.bars(client)

    @property
    def least_clients(self) -> int:
        """The smallest number of replies of which f can be held under the cap of weights."""
        return self._weights.least_clients

    def take(self, reply: Reply) -> None:
        """Begin with a reply that came, while others are on their way."""
        if self.early is not None:
            self.early.take(reply)

    def closing(self, sampled: int, asked: int) -> Quorum | None:
        """Return the quorum of so many nodes, of whom only some are asked."""
        quorum = as_quorum(self.quorum)
        if quorum is None:
            return None
        needed, f = max(self.rule.least_clients, self.least_clients), self.rule.f or 0
        return replace(quorum, least=quorum_in_force(quorum.least, needed, f, sampled, asked))

    def kind_of(self, reply: Reply) -> frozenset[str] | None:
        """Return what a reply counts as towards the quorum: its keys, where it would be taken in.

        None where it would be refused. A round takes in replies with the same keys, so that only
        as many of one kind are a quorum.
        """
        if self.asked.count(reply.client) != 1:
            return None
        (sound,) = self._weights.refusing([reply])
        return keys_of(sound, self.template)

    @property
    def limits(self) -> Limits:
        """How much of a reply is read."""
        own, template = self.max_reply_bytes, self.template
        if template is None:
            return Limits() if own is None else Limits(own)
        rest = math.inf if self.kept_by is None else template.largest_rest
        return Limits(template.largest_reply if own is None else own, rest)

    def finish(
        self,
        server_round: int,
        replies: Sequence[Reply],
        failed: Mapping[ClientId, str] | None = None,
        veto: str = "",
        arrived: Mapping[ClientId, float] | None = None,
        late: Sequence[ClientId] = (),
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
        arrived : mapping of client id to seconds, optional
            When each reply came.
        late : sequence of client ids
            Whose reply a quorum did not wait for.

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
        failed = dict(failed or {})
        heard = {reply.client for reply in replies} | set(failed)
        late = tuple(sorted(set(late) - heard, key=client_order))
        named = (self.shared_keys, self.distance_keys, self.space, self.distances)
        if self.template is None and named != (None, None, None, None):
            raise ValueError(
                "shared_keys, distance_keys, space and distances need the global model: "
                "let the strategy configure the round"
            )
        if problem := self.problem:
            veto = veto or problem
            failed |= {reply.client: NOT_KEPT for reply in replies}
            replies = ()
        with self._kept(), timed() as clock, one_blas_thread():
            judged = self._judge(server_round, replies, heard, len(late), veto)
        intake, claimed, fitted, step = judged.intake, judged.claimed, judged.fitted, judged.step
        report = RoundReport(
            server_round=server_round,
            rule=str(fitted.rule),
            byzantine=judged.in_force.f,
            basis=judged.in_force.basis,
            needed=fitted.needed,
            seed=self._seed,
            received=intake.clients,
            refused=intake.refused,
            failed=failed,
            silent=tuple(client for client in self.asked if client not in {*heard, *late}),
            late=late,
            arrived=arrived or {},
            quarantined=self.quarantined,
            barred=self.called.barred,
            bars=self._ledger.all_barred,
            doubted={**self._weights.doubts(claimed.counts), **claimed.doubted},
            metrics=claimed.metrics,
            dropped=claimed.dropped,
            kept=intake.kept,
            weighting=fitted.weighting,
            **({} if step is None else chosen(step.aggregate, intake.clients)),
            certificate=judged.certificate,
            guarantee=None if step is None else step.guarantee,
            stepped=step is not None and step.model is not None,
            optimizer="" if step is None or step.moments is None else str(self.server_optimizer),
            steps={} if step is None else dict(step.steps),
            note=_together(
                self._ledger.problem, veto or judged.note, always_late(self.reports, late)
            ),
            seconds=clock.seconds,
        )
        self._ledger.keep(report)
        if judged.failure is not None:
            raise judged.failure
        if fitted.obstacle and not veto and self.on_infeasible == "raise":
            raise InfeasibleRoundError(f"round {server_round}: {fitted.obstacle}")
        if step is None:
            return None, report
        self._server_step.moments = step.moments or self._server_step.moments
        self._server_rows.remember(step.last_step, server_round)
        return step.model, report

    def _judge(
        self,
        server_round: int,
        replies: Sequence[Reply],
        heard: Collection[ClientId],
        late: int,
        veto: str,
    ) -> _Judged:
        """Look at the replies, choose among them, and take the step unless there is a veto."""
        liars = liars_among(self.rule, len({reply.client for reply in replies}))
        known = self.early.known() if self.early else None
        sound = self._weights.refusing(replies)
        intake = admit(sound, self.template, self.device, liars, known)
        with stage("metrics"):
            claimed = self.examine(replies, intake.clients)
        in_force = self._in_force(intake, late)
        degrades = self.on_infeasible == "degrade"
        fitted = fit(self.rule, self._weights, intake.clients, in_force.f, degrades=degrades)
        step, failure = None, None
        if not veto:
            step, failure = self._try_step(fitted, intake, server_round)
        if step is not None:
            self._is_early = step.aggregate.geometry.has_differences
        asked = len(self.asked) or len(heard)
        certificate = self._certify(step, intake, in_force.f, asked)
        if step and certificate and self.require and (why := unmet(certificate)):
            step = step.not_taken(why)
        if step and self._ledger.keeps_distances:
            choice, limit = step.aggregate, limit_before(self.rule, asked)
            record = RecordedRound.of(server_round, choice, intake.clients, in_force.f, limit)
            self._ledger.record(record)
        return _Judged(intake, claimed, in_force, fitted, step, failure, certificate)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Have the round's replies at hand, and nothing left of them afterwards."""
        try:
            yield
        finally:
            self.early = None
            if self.kept_by is not None:
                self.kept_by.end()

    def _in_force(self, intake: Intake, late: int) -> InForce:
        """Return the f in force; what clients send that were not asked decides nothing."""
        refused = self._weights.of_sites(refusal.client for refusal in intake.refused)
        counted = refused.intersection(self.asked) if self.asked else refused
        return f_in_force(self.rule, len(intake.clients), len(counted), len(self.asked), late)

    def _try_step(
        self, fitted: Fitted, intake: Intake, server_round: int
    ) -> tuple[_Step | None, Exception | None]:
        """Take the step, if the rule may run; return what the operator's own code raised."""
        if intake.updates is None or not fitted.runs:
            return None, None
        # Not when the round is asked: a server that waits for replies stays small.
        warm_up(self.device, intake.updates.n, intake.updates.d)
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
        self, step: _Step | None, intake: Intake, f: int, asked: int
    ) -> RoundCertificate | None:
        """Say what is certain of the aggregate that the model moved to, or towards."""
        if not self.certificate or step is None or step.model is None or intake.updates is None:
            return None
        is_sent = self.template is None or not self.template.narrows
        with stage("certificate"):
            limit = limit_before(self.rule, asked)
            return certified(
                step.aggregate, intake.updates, intake.clients, f, limit, is_sent=is_sent
            )

    def _limit(self, rule: Rule) -> float:
        """Return the largest step of a rule: the operator's, or what its kind needs."""
        if self.largest_step is not None:
            return self.largest_step
        return math.inf if rule.is_bounded else LARGEST_STEP

    def examine(self, replies: Sequence[Reply], clients: Iterable[ClientId]) -> Claimed:
        """Aggregate what the given clients report about themselves, and say what is wrong."""
        return examine(replies, clients, self.count_key, partial(liars_among, self.rule))


def _together(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
