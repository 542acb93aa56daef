"""One round of robust aggregation, without either of Flower's APIs.

Replies in, new global model and report out. Both strategies are thin because this is the one
place where a round happens.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from flwr_krum.boundary.early import Early, is_worth_it
from flwr_krum.boundary.intake import keys_of
from flwr_krum.boundary.messages import EVERYTHING, Limits
from flwr_krum.boundary.questions import Fetched
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.boundary.replies import ClientId, Reply, client_order
from flwr_krum.boundary.spill import Spill
from flwr_krum.boundary.template import Model, Template
from flwr_krum.certified import limit_before
from flwr_krum.claimed import Claimed
from flwr_krum.decision import Asked, Decider, Decision, together
from flwr_krum.fitted import liars_among
from flwr_krum.in_force import check_quorum, quorum_in_force
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.clock import timed
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.kernel.ways import prepare
from flwr_krum.ledger import Called, Ledger
from flwr_krum.log import conclusion, tree
from flwr_krum.recorded import RecordedRound
from flwr_krum.report import RoundReport, always_late, chosen
from flwr_krum.server_rows import ServerRows
from flwr_krum.settings import RoundSettings
from flwr_krum.step import ServerStep
from flwr_krum.weights import DeclaredWeights

NOT_KEPT = "its reply, and all others, could not be kept"
"""Why a reply is not taken in that nothing is wrong with."""


class InfeasibleRoundError(ValueError):
    """Too few replies for the rule's requirement, and ``on_infeasible`` is "raise"."""


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
        if self.early_close is not None:
            check_quorum(self.early_close.least, self.rule, self.least_clients)
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
    def _decider(self) -> Decider:
        """Decides a round; made anew, since who holds its own maker is not freed at once."""
        return Decider(self, self._weights, self._server_rows, self._server_step)

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
            expected = len(self.asked)
            if self.early_close is not None:
                expected = min(expected, self.early_close.least)
            self.early = Early(self.template, self.device, expected)
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
        quorum = self.early_close
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
            return EVERYTHING if own is None else Limits(own)
        is_limited = self.kept_by is not None or self.lane
        rest = template.largest_rest if is_limited else math.inf
        return Limits(template.largest_reply if own is None else own, rest)

    def finish(
        self,
        server_round: int,
        replies: Sequence[Reply],
        failed: Mapping[ClientId, str] | None = None,
        veto: str = "",
        arrived: Mapping[ClientId, float] | None = None,
        late: Sequence[ClientId] = (),
        fetched: Fetched | None = None,
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
        fetched : Fetched, optional
            How much of the replies was fetched object by object.

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
        failed, fetched = dict(failed or {}), fetched or Fetched()
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
            asked = Asked(server_round, self.template, self.asked, heard, len(late))
            decision = self._decide(asked, replies, veto)
        intake, fitted, step = decision.intake, decision.fitted, decision.step
        claimed = decision.claimed
        report = RoundReport(
            server_round=server_round,
            rule=str(fitted.rule),
            byzantine=decision.in_force.f,
            basis=decision.in_force.basis,
            needed=fitted.needed,
            seed=self._seed,
            received=intake.clients,
            refused=intake.refused,
            failed=failed,
            silent=tuple(client for client in self.asked if client not in {*heard, *late}),
            late=late,
            arrived=arrived or {},
            fetched_bytes=fetched.bytes,
            distinct_bytes=fetched.distinct,
            quarantined=self.quarantined,
            barred=self.called.barred,
            bars=self._ledger.all_barred,
            doubted={**self._weights.doubts(claimed.counts), **claimed.doubted},
            metrics=claimed.metrics,
            dropped=claimed.dropped,
            kept=intake.kept,
            weighting=fitted.weighting,
            **({} if step is None else chosen(step.aggregate, intake.clients)),
            certificate=decision.certificate,
            guarantee=None if step is None else step.guarantee,
            stepped=step is not None and step.model is not None,
            optimizer="" if step is None or step.moments is None else str(self.server_optimizer),
            steps={} if step is None else dict(step.steps),
            note=together(
                self._ledger.problem, veto or decision.note, always_late(self.reports, late)
            ),
            seconds=clock.seconds,
        )
        self._ledger.keep(report)
        if decision.failure is not None:
            raise decision.failure
        if fitted.obstacle and not veto and self.on_infeasible == "raise":
            raise InfeasibleRoundError(f"round {server_round}: {fitted.obstacle}")
        if step is None:
            return None, report
        self._server_step.moments = step.moments or self._server_step.moments
        self._server_rows.remember(step.last_step, server_round)
        return step.model, report

    def _decide(self, asked: Asked, replies: Sequence[Reply], veto: str) -> Decision:
        """Decide a round, and keep what other rules can be judged by."""
        known = self.early.known() if self.early else None
        decision = self._decider.decide(asked, replies, known, veto)
        step = decision.step
        if step is None:
            return decision
        self._is_early = step.aggregate.geometry.has_differences
        if self._ledger.keeps_distances:
            clients, f = decision.intake.clients, decision.in_force.f
            limit = limit_before(self.rule, asked.n)
            record = RecordedRound.of(asked.server_round, step.aggregate, clients, f, limit)
            self._ledger.record(record)
        return decision

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Have the round's replies at hand, and nothing left of them afterwards."""
        try:
            yield
        finally:
            self.early = None
            if self.kept_by is not None:
                self.kept_by.end()

    def examine(self, replies: Sequence[Reply], clients: Iterable[ClientId]) -> Claimed:
        """Aggregate what the given clients report about themselves, and say what is wrong."""
        return self._decider.examine(replies, clients)
