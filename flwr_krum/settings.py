"""What an operator may set of a federation's rounds: every option, what it means and what is legal.

The strategies of both APIs take these beside Flower's own arguments and hand them to `Rounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, get_args

from flwr_krum.boundary.quorum import Quorum, as_quorum
from flwr_krum.boundary.replies import ClientId, few
from flwr_krum.boundary.root import Root
from flwr_krum.boundary.template import Keys, check_keys
from flwr_krum.certified import Require, is_certified
from flwr_krum.checks import whole_number
from flwr_krum.journal import JournalLike
from flwr_krum.kernel.arrays import Array
from flwr_krum.moments import OptimizerState
from flwr_krum.optimizers import ServerOptimizer
from flwr_krum.report import RoundReport
from flwr_krum.rules.rule import Rule
from flwr_krum.space import LowRank, check_space
from flwr_krum.step import LearningRate, ServerStep
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
    quorum: Quorum | int | None
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
    memory: int | None
    spill: str | Path | None
    lane: bool
    on_report: Callable[[RoundReport], object] | None


@dataclass
class RoundSettings:
    """The options of one federation's rounds, checked one by one.

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
    quorum : flwr_krum.boundary.quorum.Quorum or int (optional)
        Close a round as soon as so many sound replies came, and a grace is over, such as
        ``Quorum(11, grace=0.5, wait=5.0)``: the late are left out of the model, named, and not
        asked again until their reply came and was dropped. At least as many as the rule needs at
        f, which must be declared. By default every round waits for all. What it costs:
        docs/waiting.md.
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
    memory : int (optional)
        Bytes of a round's replies that are held in memory; those beyond go to ``spill`` as they
        arrive, and are read from there in blocks. The result has the same bytes. By default all
        are held. Not with ``space``.
    spill : str or Path (optional)
        Folder on a disk for the replies beyond ``memory``, in a file without a name: nothing is
        left of it, however the process ends. A round for which it has no room asks nobody.
    lane : bool (default: False)
        Fetch replies object by object, what several share once, and refuse before they are put
        together those that would be larger than is read. With it, as with ``memory``, a reply may
        have a MiB beside its arrays, and 2 KiB for each array of the model: metrics above all.
        Without both that is not limited. Only ``aggregate_train``, and only with the versions of
        Flower whose private parts were tested; with others, and on other grids than a SuperLink's,
        replies are fetched whole, and the log says why. See docs/large-models.md.
    on_report : callable, RoundReport -> anything (optional)
        Called with a copy of each report when it is in the journal, in a thread that no round waits
        for. What it raises is logged; while it hangs, reports are logged as not told. At the end
        of the program it has ten seconds for what is due.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, distances or memory are set together with space, or one
        of memory and spill alone.
    """

    rule: Rule
    on_infeasible: OnInfeasible = "skip"
    server_learning_rate: LearningRate = 1.0
    quarantine: int | None = None
    quorum: Quorum | int | None = None
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
    memory: int | None = None
    spill: str | Path | None = None
    lane: bool = False
    server_optimizer: ServerOptimizer | None = None
    server_optimizer_state: OptimizerState | None = None
    server_last_step: Mapping[str, Array] | None = None
    on_report: Callable[[RoundReport], object] | None = None
    early_close: Quorum | None = field(default=None, init=False)
    """``quorum``, however it was written."""

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise TypeError(f"rule must be a flwr_krum rule such as Krum(f=1), got {self.rule!r}")
        if self.on_infeasible not in get_args(OnInfeasible):
            raise ValueError(
                f"on_infeasible must be one of {get_args(OnInfeasible)}, got {self.on_infeasible!r}"
            )
        self.certificate = is_certified(self.certificate, self.require)
        if self.quarantine is not None:
            whole_number("quarantine", self.quarantine, 1)
        self.quorum = self.early_close = as_quorum(self.quorum)
        whole_number("rounds_done", self.rounds_done, 0)
        if self.largest_step is not None and not self.largest_step > 0.0:
            raise ValueError(f"largest_step must be a number > 0, got {self.largest_step!r}")
        self.shared_keys = check_keys("shared_keys", self.shared_keys)
        self.distance_keys = check_keys("distance_keys", self.distance_keys)
        check_space(self.space, self.rule)
        if self.max_reply_bytes is not None:
            whole_number("max_reply_bytes", self.max_reply_bytes, 1)
        if self.on_report is not None and not callable(self.on_report):
            raise TypeError(f"on_report must be a function of a report, got {self.on_report!r}")
        if self.distances is not None and self.space is not None:
            raise ValueError(
                "distances and space are both set: leave out one of them; a mean of factors is "
                "no mean of products, and no rule's mixture could be judged by the distances"
            )
        if not isinstance(self.lane, bool):
            raise TypeError(f"lane is {self.lane!r}, expected True or False")
        self._check_memory()

    def _check_memory(self) -> None:
        if (self.memory is None) != (self.spill is None):
            raise ValueError(
                f"memory is {self.memory!r} and spill is {self.spill!r}: give both, the bytes of a "
                "round's replies that are held and a folder on a disk for the others, or neither"
            )
        if self.memory is None:
            return
        whole_number("memory", self.memory, 0)
        if self.space is not None:
            raise ValueError(
                "memory and space are both set: leave out one of them; products of layers are "
                "compared with all clients' factors in memory"
            )

    def in_words(self, step: ServerStep, weights: DeclaredWeights, journal: str) -> list[str]:
        """Return a line for each setting, with what became of those that are more than a value."""
        rule = f"Rule: {self.rule}"
        if self.rule.f == 0 and self.rule.bears_liars:
            rule += ", which tolerates no Byzantine client: f=0 was declared"
        return [
            rule,
            f"When infeasible: {self.on_infeasible}",
            str(step),
            f"Quarantine: {f'after {self.quarantine} refusals' if self.quarantine else 'off'}",
            f"A round closes: {self._close_told()}",
            f"Journal: {journal}",
            f"Device: {self.device}",
            f"Keys that travel: {_told(self.shared_keys, 'all, or what the replies agree on')}",
            f"Keys in distances: {_told(self.distance_keys, 'all float arrays')}",
            f"Distances between: {self.space or 'arrays as they are'}",
            f"Largest reply: {self.max_reply_bytes or 'every number in 64 bits, and a MiB'}",
            f"Replies in memory: {self._memory_told()}",
            f"Replies are fetched: {'each object once' if self.lane else 'whole'}",
            str(weights),
            f"Certificate: {self._certificate_told()}",
            f"Model of the server's own: {'made each round' if self.root else 'none'}",
            f"Told of each round: {'a function' if self.on_report else 'the log'}",
        ]

    def _memory_told(self) -> str:
        return "all" if self.memory is None else f"{self.memory} bytes, others in {self.spill}"

    def _close_told(self) -> str:
        if self.early_close is None:
            return "when all have answered, or at its timeout"
        f, least = self.rule.f or 0, self.early_close.least
        liars = f"; f liars who answer first are {f} of {least}" if f else ""
        return f"after {self.early_close}{liars}"

    def _certificate_told(self) -> str:
        if self.require:
            return "each round, and the model stays where it does not hold or cannot be known"
        return "each round" if self.certificate else "none"


def _told(keys: Keys | None, default: str) -> str:
    if keys is None:
        return default
    return "a function of the key" if callable(keys) else few([str(key) for key in keys])
