"""What one round makes of its replies: who is taken in, what the rule chooses, where that leads.

Nothing of a round is remembered here. Whether the model moves, and what is written of it, is for
`flwr_krum.round` to carry out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from flwr_krum.boundary.intake import Intake, admit
from flwr_krum.boundary.npy import encode
from flwr_krum.boundary.replies import ClientId, Reply, in_a_sentence
from flwr_krum.boundary.template import Model, Template
from flwr_krum.certified import RoundCertificate, certified, limit_before, unmet
from flwr_krum.claimed import Claimed, examine
from flwr_krum.fitted import Fitted, fit, liars_among
from flwr_krum.guarantee import Guarantee, judge
from flwr_krum.in_force import InForce, f_in_force
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.known import KnownPairs
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.kernel.ways import warm_up
from flwr_krum.moments import Moments
from flwr_krum.rules.rule import Aggregate, Rule
from flwr_krum.server_rows import ServerRows
from flwr_krum.settings import RoundSettings
from flwr_krum.step import LARGEST_STEP, ServerStep
from flwr_krum.weights import DeclaredWeights


class Asked(NamedTuple):
    """What a round asked of whom, and what came beside the replies.

    Attributes
    ----------
    server_round : int
    template : Template or None
        Of the global model that was sent; None where that is not known.
    clients : sequence of client ids
        Who was asked; empty where that is not known.
    heard : collection of client ids
        Who answered, if only by an error.
    late : int
        How many replies a quorum did not wait for.
    """

    server_round: int
    template: Template | None
    clients: Sequence[ClientId]
    heard: Collection[ClientId]
    late: int

    @property
    def n(self) -> int:
        """How many clients the round is about."""
        return len(self.clients) or len(self.heard)


class Step(NamedTuple):
    """What a rule made of a round; no model, and a note, where the step is not taken."""

    aggregate: Aggregate
    guarantee: Guarantee
    model: dict[str, bytes] | None
    note: str
    moments: Moments | None = None
    steps: Mapping[str, float] = MappingProxyType({})
    last_step: Model | None = None

    def not_taken(self, why: str) -> Step:
        """Return what is left of a step that is not taken, for whatever reason."""
        return Step(self.aggregate, self.guarantee, None, together(self.note, why))


class Decision(NamedTuple):
    """What a round's replies came to, and what the operator's own rule or rate raised."""

    intake: Intake
    claimed: Claimed
    in_force: InForce
    fitted: Fitted
    step: Step | None
    failure: Exception | None
    certificate: RoundCertificate | None

    @property
    def note(self) -> str:
        """Why the model did not move, or what else was out of the ordinary."""
        failed = "" if self.failure is None else in_a_sentence(self.failure)
        return together(failed, self.fitted.obstacle, "" if self.step is None else self.step.note)


@dataclass(frozen=True)
class Decider:
    """Decides rounds by the settings of a federation, and by what the server adds to them."""

    settings: RoundSettings
    weights: DeclaredWeights
    server_rows: ServerRows
    server_step: ServerStep

    def decide(
        self, asked: Asked, replies: Sequence[Reply], known: KnownPairs | None, veto: str
    ) -> Decision:
        """Look at the replies, choose among them, and take the step unless there is a veto.

        Parameters
        ----------
        asked : Asked
        replies : sequence of Reply
        known : KnownPairs, optional
            Distances that were worked out while others were on their way.
        veto : str
            Why the model is to stay as it is, whatever came; empty if it is not.
        """
        own = self.settings
        liars = liars_among(own.rule, len({reply.client for reply in replies}))
        sound = self.weights.refusing(replies)
        intake = admit(sound, asked.template, own.device, liars, known)
        with stage("metrics"):
            claimed = self.examine(replies, intake.clients)
        in_force = self._in_force(intake, asked)
        degrades = own.on_infeasible == "degrade"
        fitted = fit(own.rule, self.weights, intake.clients, in_force.f, degrades=degrades)
        step, failure = (None, None) if veto else self._try_step(fitted, intake, asked)
        certificate = self._certify(step, intake, in_force.f, asked)
        if step and certificate and own.require and (why := unmet(certificate)):
            step = step.not_taken(why)
        return Decision(intake, claimed, in_force, fitted, step, failure, certificate)

    def examine(self, replies: Sequence[Reply], clients: Iterable[ClientId]) -> Claimed:
        """Aggregate what the given clients report about themselves, and say what is wrong."""
        own = self.settings
        return examine(replies, clients, own.count_key, partial(liars_among, own.rule))

    def _in_force(self, intake: Intake, asked: Asked) -> InForce:
        """Return the f in force; what clients send that were not asked decides nothing."""
        refused = self.weights.of_sites(refusal.client for refusal in intake.refused)
        counted = refused.intersection(asked.clients) if asked.clients else refused
        accepted, n = len(intake.clients), len(asked.clients)
        return f_in_force(self.settings.rule, accepted, len(counted), n, asked.late)

    def _try_step(
        self, fitted: Fitted, intake: Intake, asked: Asked
    ) -> tuple[Step | None, Exception | None]:
        """Take the step, if the rule may run; return what the operator's own code raised."""
        if intake.updates is None or not fitted.runs:
            return None, None
        # Not when the round is asked: a server that waits for replies stays small.
        warm_up(self.settings.device, intake.updates.n, intake.updates.d)
        try:
            updates = self.server_rows.beside(intake.updates, intake.keys, asked.template)
            return self._step(fitted, updates, intake, asked), None
        except Exception as error:  # a rule or a rate of the operator's own
            return None, error

    def _step(self, fitted: Fitted, updates: ClientUpdates, intake: Intake, asked: Asked) -> Step:
        """Let the rule choose, judge the guarantee, and take the step."""
        rule, reference = fitted.rule, updates.reference
        server_round, template = asked.server_round, asked.template
        missing = self.server_rows.note
        shares = None if fitted.weighting is None else fitted.weighting.counting
        with stage("rule"):
            aggregate = rule(updates, server_round=server_round, shares=shares)
        with stage("guarantee"):
            guarantee = judge(rule, aggregate, updates.n, centred=reference is not None)
        weights = aggregate.weights
        if reference is None and weights is not None and not weights.any():
            # All lies on the global model, and nobody knows where that is.
            return Step(aggregate, guarantee, None, aggregate.choice.note)
        with stage("combine"):
            step = self.server_step.towards(
                aggregate.layers, updates, intake.keys, server_round, self._largest_step(rule)
            )
        if step.problem:
            note = together(aggregate.choice.note, missing, step.problem)
            return Step(aggregate, guarantee, None, note)
        # What may be encoded already: the reply of the one client that was chosen.
        source = intake.encoded[aggregate.selected[0]] if len(aggregate.selected) == 1 else {}
        with stage("encode"):
            changed = dict(zip(intake.keys, step.layers, strict=True))
            whole = changed if template is None else template.completed(changed)
            model = {key: encode(array, source.get(key)) for key, array in whole.items()}
        last = self.server_rows.step_to(updates, intake.keys, aggregate.layers)
        note = together(aggregate.choice.note, missing)
        return Step(aggregate, guarantee, model, note, step.moments, step.compared, last)

    def _certify(
        self, step: Step | None, intake: Intake, f: int, asked: Asked
    ) -> RoundCertificate | None:
        """Say what is certain of the aggregate that the model moved to, or towards."""
        own = self.settings
        if not own.certificate or step is None or step.model is None or intake.updates is None:
            return None
        is_sent = asked.template is None or not asked.template.narrows
        with stage("certificate"):
            limit = limit_before(own.rule, asked.n)
            return certified(
                step.aggregate, intake.updates, intake.clients, f, limit, is_sent=is_sent
            )

    def _largest_step(self, rule: Rule) -> float:
        """Return the largest step of a rule: the operator's, or what its kind needs."""
        if self.settings.largest_step is not None:
            return self.settings.largest_step
        return math.inf if rule.is_bounded else LARGEST_STEP


def together(*notes: str) -> str:
    """Return the notes that say something, in one."""
    return "; ".join(note for note in notes if note)
