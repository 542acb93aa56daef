"""What becomes of a round in which liars and accidents meet: the model, or a round lost to them.

Honest clients send models near 1. Up to f liars send one lie each, up to f honest clients meet
with an accident: a NaN, a crash, silence. One round is played for every combination, through the
strategies of both APIs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common import Code, FitRes, NDArrays, Status, ndarrays_to_parameters
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy

import flwr_krum.server.strategy as our_fit
import flwr_krum.serverapp.strategy as our_train
from flwr_krum.boundary.records import record_of, to_record
from flwr_krum.report import RoundReport
from flwr_krum.rules import RULES
from flwr_krum.rules.rule import ROOT
from flwr_krum.rules.written import parse_rule
from flwr_krum.settings import RoundOptions
from simulations.engines.inprocess import InProcessGrid

F = 2
SIZES = (7, 8, 9, 11, 13)
"""From 2f + 3, the least for Krum, over 3f + 3, from which accidents cost nothing, to more."""

ACCIDENTS = ("nan", "crash", "silence")
LIES = {"a million": 1e6, "1e30": -1e30, "nan": np.nan, "a little off": 1.5, "reversed": -1.0}

OUTCOMES = ("kept", "held back", "skipped", "lost")
"""What becomes of the model: near the honest ones; between where it was and there; where it was;
elsewhere."""

Answer: TypeAlias = NDArrays | str
"""A client's arrays, "crash" or "silence"."""


@dataclass(frozen=True)
class Case:
    """One round: how many clients, liars, and accidents of which kinds."""

    n: int
    liars: int
    lie: str
    accidents: int
    accident: str

    def answers(self) -> dict[int, Answer]:
        """Return what each client does; liars come first, then those with an accident."""
        rng = np.random.default_rng([self.n, self.liars, self.accidents])
        honest: list[Answer] = [
            [(1.0 + 1e-3 * rng.standard_normal(4)).astype(np.float32)] for _ in range(self.n)
        ]
        for i in range(self.liars):
            honest[i] = [np.full(4, LIES[self.lie], np.float32)]
        for i in range(self.liars, self.liars + self.accidents):
            nan: NDArrays = [np.full(4, np.nan, np.float32)]
            honest[i] = nan if self.accident == "nan" else self.accident
        return dict(enumerate(honest, 1))


def cases(n: int) -> Iterable[Case]:
    """Yield every combination of 0 to F liars and 0 to F accidents among n clients."""
    for liars in range(F + 1):
        for lie in LIES if liars else ("none",):
            for accidents in range(F + 1):
                for accident in ACCIDENTS if accidents else ("none",):
                    yield Case(n, liars, lie, accidents, accident)


def outcome(rule: str, api: str, case: Case) -> tuple[str, RoundReport]:
    """Play one round and say what became of the model: one of OUTCOMES."""
    made = parse_rule(rule, f=F, seed=0)
    play = _through_messages if api == "message" else _through_fit
    model, report = play(made, case.answers())
    if model is None:
        return "skipped", report
    values = np.concatenate(model)
    if np.abs(values - 1.0).max() < 0.1:
        return "kept", report
    return ("held back" if 0.0 <= values.min() <= values.max() < 1.1 else "lost"), report


def worst(rule: str, n: int) -> str:
    """Return what a rule's rounds among n clients come to, over all cases and both APIs.

    Returns
    -------
    For example "kept or skipped"; where rounds are lost, with how few liars and accidents.
    """
    found = {(outcome(rule, api, case)[0], case) for case in cases(n) for api in ("message", "fit")}
    lost = {case for result, case in found if result == "lost"}
    if lost:
        return f"lost: {_fewest(lost)}"
    return " or ".join(name for name in OUTCOMES if any(result == name for result, _ in found))


def _fewest(lost: Iterable[Case]) -> str:
    """Return the smallest combinations of liars and accidents that lose a round, in words."""
    kinds: dict[tuple[int, int], set[str]] = {}
    for case in lost:
        kinds.setdefault((case.liars, case.accidents), set()).add(case.accident)
    smallest = [
        (liars, accidents)
        for liars, accidents in sorted(kinds)
        if not any(i <= liars and j <= accidents for i, j in kinds.keys() - {(liars, accidents)})
    ]
    return " or ".join(
        f"liars {liars}, {'/'.join(sorted(kinds[liars, accidents]))} {accidents}"
        if accidents
        else f"liars {liars}"
        for liars, accidents in smallest
    )


def table(rules: Iterable[str] = tuple(RULES), sizes: Iterable[int] = SIZES) -> str:
    """Return the worst outcomes as a Markdown table: a row per rule, a column per n."""
    columns = tuple(sizes)
    lines = [
        f"| rule | {' | '.join(f'n = {n}' for n in columns)} |",
        f"| --- | {' | '.join('---' for _ in columns)} |",
    ]
    lines += [f"| {rule} | {' | '.join(worst(rule, n) for n in columns)} |" for rule in rules]
    return "\n".join(lines) + "\n"


def section() -> str:
    """Return the part of the page on survival that is about accidents."""
    return (
        "\n## Lies and accidents together\n\n"
        f"One round among n clients, f = {F}: 0 to {F} liars (a model of a million, of minus 1e30, "
        f"of NaN, a little off, or the honest one reversed) and 0 to {F} honest clients that meet "
        "with an accident (a NaN, a crash, silence), in every combination, through the strategies "
        "of both APIs. *kept*: the model is within 0.1 of the honest ones; *held back*: it is "
        "between them and where it was; *skipped*: some rounds left it where it was; *lost*: a "
        "liar moved it, and these are the fewest liars and accidents that do it. Where n less the "
        "accidents is at least 2f + 3, which n = 3f + 3 always leaves, no robust rule loses a "
        "round (of more, where the rule needs more, as Bulyan's 4f + 3); "
        "below that [a NaN of an honest client](in-force.md) may be taken for a liar's, and the "
        "report says that f was lowered for it. `average`, `norm-bounding` and `1-p-krum` when it "
        "averages promise less, and a step that one client can make as long as it likes is only "
        "[kept short](in-force.md#steps-that-no-rule-bounds). `cge` and `centered-clipping` bound "
        "how far a round goes, not where. `monna` and `fltrust` have an honest model of the "
        "server's own beside the clients'.\n\n" + table()
    )


class _Proxy(ClientProxy):
    """A client that is only a name."""

    def _never(self, *_: Any) -> Any:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _never  # type: ignore[assignment]


_MODEL = [np.zeros(4, np.float32)]


def _own_model(rule: Any) -> RoundOptions:
    """Return a server with an honest model of its own, if the rule asks for one."""
    return {"root": lambda _: [np.ones(4, np.float32)]} if ROOT in rule.server_rows else {}


def _through_messages(
    rule: Any, answers: Mapping[int, Answer]
) -> tuple[NDArrays | None, RoundReport]:
    strategy = our_train.RobustAggregation(
        rule,
        min_train_nodes=len(answers),
        client_id=lambda node: node - 1,
        **_own_model(rule),
    )
    grid = _Nodes(len(answers))
    asked = strategy.configure_train(1, to_record({"w": _MODEL[0]}), ConfigRecord(), grid)
    replies = []
    for message in asked:
        answer = answers[message.metadata.dst_node_id - 1]
        if isinstance(answer, str):
            if answer == "crash":
                replies.append(Message(Error(1, "out of memory"), reply_to=message))
            continue
        content = RecordDict(
            {"arrays": to_record({"w": answer[0]}), "metrics": MetricRecord({"num-examples": 1})}
        )
        replies.append(Message(content, reply_to=message))
    arrays, _ = strategy.aggregate_train(1, replies)
    return _layers(arrays), strategy.reports[-1]


def _layers(arrays: ArrayRecord | None) -> NDArrays | None:
    return None if arrays is None else arrays.to_numpy_ndarrays()


class _Nodes(InProcessGrid):
    """Nodes that are counted and never asked through the grid."""

    def __init__(self, n: int) -> None:
        super().__init__(None, n)  # type: ignore[arg-type]


def _through_fit(rule: Any, answers: Mapping[int, Answer]) -> tuple[NDArrays | None, RoundReport]:
    parameters = ndarrays_to_parameters(_MODEL)
    strategy = our_fit.RobustAggregation(
        rule,
        min_fit_clients=len(answers),
        min_available_clients=len(answers),
        initial_parameters=parameters,
        **_own_model(rule),
    )
    manager = SimpleClientManager()
    for client in answers:
        manager.register(_Proxy(str(client)))
    results: list[tuple[ClientProxy, FitRes]] = []
    failures: list[Any] = []
    for proxy, _ in strategy.configure_fit(1, parameters, manager):
        answer = answers[int(proxy.cid)]
        if isinstance(answer, str):
            if answer == "crash":
                failures.append(RuntimeError("out of memory"))
            continue
        sent = ndarrays_to_parameters(answer)
        results.append((proxy, FitRes(Status(Code.OK, ""), sent, 1, {})))
    found, _ = strategy.aggregate_fit(1, results, failures)
    report = strategy.reports[-1]
    if found is None:
        return None, report
    return _layers(_record_of(found.tensors)), report


def _record_of(tensors: list[bytes]) -> ArrayRecord:
    return record_of({str(i): tensor for i, tensor in enumerate(tensors)})
