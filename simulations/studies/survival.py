"""Which strategies survive a client that breaks the protocol: ours beside Flower's own.

Every fault of `flwr_krum.attacks.FAULTS` is sent by real clients in full federations, once per
strategy and API. A strategy survives a fault if the run ends, the model is finite and of its old
shape, and the accuracy is within three points of the same run without the hostile clients' faults.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import flwr.server.strategy as flower_fit
import flwr.serverapp.strategy as flower_train
import numpy as np
from flwr.app import ArrayRecord, Context, RecordDict
from flwr.common import NDArrays, ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.serverapp import ServerApp

import flwr_krum.server.strategy as our_fit
import flwr_krum.serverapp.strategy as our_train
from clients.client_app import build_client_app
from clients.honest import ROUND_KEY
from clients.learning.models import build_model, load_parameters, parameters_of
from clients.learning.steps import evaluate, replica
from clients.root import RootLearner
from clients.settings import Settings
from clients.tasks import load_task
from flwr_krum.attacks import FAULTS
from flwr_krum.boundary.records import to_record
from flwr_krum.kernel.threads import cores
from flwr_krum.report import RoundReport
from flwr_krum.rules import RULES
from flwr_krum.rules.rule import ROOT
from flwr_krum.rules.written import parse_rule
from simulations.engines.engines import quiet_flower
from simulations.engines.inprocess import InProcessGrid

N, F, ROUNDS = 7, 1, 20
# Twenty rounds are enough to learn something: larger batches and steps than the paper's.
LEARNING = {"num-clients": N, "f": F, "batch-size": 32, "learning-rate": 0.5, "local-steps": 2}
TOLERANCE = 0.03

Maker = Callable[..., Any]


def _ours(aggregation: Maker, rule: str, **options: Any) -> Any:
    """Return this package's strategy for a rule that bears F, or as many of them as it can.

    Where the rule asks for a model of the server's own, the server learns on a clean shard.
    """
    made = parse_rule(rule, f=F, seed=0)
    if ROOT in made.server_rows:
        settings = Settings.from_config(LEARNING)
        options["root"] = RootLearner(settings, load_task(settings))
    return aggregation(made if made.suffices(N, F) else made.fitted(N, made.most(N)), **options)


TRAIN: dict[str, Maker] = {
    "flower Krum": lambda **kw: flower_train.Krum(num_malicious_nodes=F, **kw),
    "flower MultiKrum": lambda **kw: flower_train.MultiKrum(
        num_malicious_nodes=F, num_nodes_to_select=N - F, **kw
    ),
    "flower Bulyan": lambda **kw: flower_train.Bulyan(num_malicious_nodes=F, **kw),
    "flower FedMedian": lambda **kw: flower_train.FedMedian(**kw),
    "flower FedTrimmedAvg": lambda **kw: flower_train.FedTrimmedAvg(beta=0.2, **kw),
    **{rule: partial(_ours, our_train.RobustAggregation, rule) for rule in RULES},
}
FIT: dict[str, Maker] = {
    "flower Krum": lambda **kw: flower_fit.Krum(num_malicious_clients=F, **kw),
    "flower MultiKrum": lambda **kw: flower_fit.Krum(
        num_malicious_clients=F, num_clients_to_keep=N - F, **kw
    ),
    "flower Bulyan": lambda **kw: flower_fit.Bulyan(num_malicious_clients=F, to_keep=0, **kw),
    "flower FedMedian": lambda **kw: flower_fit.FedMedian(**kw),
    "flower FedTrimmedAvg": lambda **kw: flower_fit.FedTrimmedAvg(beta=0.2, **kw),
    **{rule: partial(_ours, our_fit.RobustAggregation, rule) for rule in RULES},
}
STRATEGIES = {"message": TRAIN, "fit": FIT}


@dataclass(frozen=True)
class Fate:
    """What became of a strategy under a fault."""

    api: str
    strategy: str
    fault: str
    verdict: str
    """"ok", "crash", "not finite", "other shape" or "worse"."""
    accuracy: float | None = None
    detail: str = ""


def survey(
    faults: Iterable[str] = tuple(FAULTS),
    strategies: Iterable[str] = tuple(TRAIN),
    apis: Iterable[str] = tuple(STRATEGIES),
) -> list[Fate]:
    """Run every strategy under every fault, in parallel, and say what became of each."""
    cases = [(api, strategy, tuple(faults)) for api in apis for strategy in strategies]
    context = get_context("spawn")
    with ProcessPoolExecutor(cores(), mp_context=context) as pool:
        return [fate for fates in pool.map(_fates, cases) for fate in fates]


def _fates(case: tuple[str, str, tuple[str, ...]]) -> list[Fate]:
    api, strategy, faults = case
    # NaN on its way through other people's arithmetic is the point, not worth a warning each.
    with quiet_flower(level=100), warnings.catch_warnings(action="ignore"):
        peace, _ = _learn(api, strategy, {"attack": "none"})
        reference = _accuracy(peace)
        return [_fate(api, strategy, fault, reference, peace) for fault in faults]


def _fate(api: str, strategy: str, fault: str, reference: float, peace: NDArrays) -> Fate:
    try:
        model, detail = _learn(api, strategy, {"attack": "malformed", "fault": fault})
    except Exception as error:
        return Fate(api, strategy, fault, "crash", None, f"{type(error).__name__}: {error}"[:100])
    if [array.shape for array in model] != [array.shape for array in peace]:
        return Fate(api, strategy, fault, "other shape")
    if not all(np.isfinite(array).all() for array in model):
        return Fate(api, strategy, fault, "not finite")
    accuracy = _accuracy(model)
    verdict = "ok" if accuracy >= reference - TOLERANCE else "worse"
    return Fate(api, strategy, fault, verdict, accuracy, detail)


def _learn(api: str, strategy: str, attack: Mapping[str, Any]) -> tuple[NDArrays, str]:
    """Run one federation; return its model and the reason of the last refusal, if any."""
    grid = InProcessGrid(build_client_app({**LEARNING, **attack}), N)
    initial = parameters_of(build_model("spambase", "mlp", 0))
    make = STRATEGIES[api][strategy]
    if api == "message":
        train = make(min_train_nodes=N, min_available_nodes=N, fraction_evaluate=0.0)
        last: list[ArrayRecord] = []
        train.start(
            grid=grid,
            initial_arrays=to_record(initial),
            num_rounds=ROUNDS,
            evaluate_fn=lambda _, arrays: last.append(arrays),
        )
        return last[-1].to_numpy_ndarrays(), _last_refusal(train)
    models: list[NDArrays] = []
    fit = make(
        min_fit_clients=N,
        min_available_clients=N,
        min_evaluate_clients=0,
        fraction_evaluate=0.0,
        initial_parameters=ndarrays_to_parameters(list(initial.values())),
        on_fit_config_fn=lambda server_round: {ROUND_KEY: server_round},
        evaluate_fn=lambda _round, arrays, _config: models.append(arrays),
    )
    components = ServerAppComponents(strategy=fit, config=ServerConfig(num_rounds=ROUNDS))
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    ServerApp(server_fn=lambda _: components)(grid, context)
    return models[-1], _last_refusal(fit)


def _last_refusal(strategy: Any) -> str:
    reports: list[RoundReport] = getattr(strategy, "reports", [])
    reasons = [refused.reason for report in reports[-1:] for refused in report.refused]
    doubts = [doubt for report in reports[-1:] for doubt in report.doubted.values()]
    return (reasons or doubts or [""])[0]


def _accuracy(model: NDArrays) -> float:
    settings = Settings.from_config(LEARNING)
    task = load_task(settings)
    network = replica(settings)
    load_parameters(network, model)
    return evaluate(network, task.test_x, task.test_y)[1]


def table(fates: list[Fate]) -> str:
    """Return the fates as a Markdown table: a row per fault, a column per strategy.

    A cell has the Message API's fate, then that of `aggregate_fit` where it differs.
    """
    strategies = list(dict.fromkeys(fate.strategy for fate in fates))
    verdicts = {(fate.fault, fate.strategy, fate.api): fate.verdict for fate in fates}
    lines = [
        f"| fault | {' | '.join(strategies)} |",
        f"| --- | {' | '.join('---' for _ in strategies)} |",
    ]
    for fault in dict.fromkeys(fate.fault for fate in fates):
        cells = [
            _cell(
                [verdicts[fault, name, api] for api in STRATEGIES if (fault, name, api) in verdicts]
            )
            for name in strategies
        ]
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    survived = [
        f"{sum(v == 'ok' for (_, s, _), v in verdicts.items() if s == name)}"
        f" of {sum(s == name for _, s, _ in verdicts)}"
        for name in strategies
    ]
    lines.append(f"| **survived** | {' | '.join(survived)} |")
    return "\n".join(lines) + "\n"


def _cell(verdicts: list[str]) -> str:
    return " / ".join(dict.fromkeys(verdicts))


def write_page(path: Path, fates: list[Fate], accidents: str) -> None:
    """Write the page that shows the table and says how it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "# What survives a hostile reply\n\n"
        f"Made by `python -m simulations survive`: {N} clients learn the spam filter for {ROUNDS} "
        f"rounds, the last one sends the fault in every round; f = {F}. *ok*: the run ended, the "
        "model is finite, of its old shape, and within three points of the same run without the "
        "fault. *crash*: an exception left the strategy and ended the run. Where two fates stand "
        "in a cell, the first is that of the Message API, the second of `aggregate_fit`. "
        "That API has no names and fixed records: renamed-array, swapped-arrays, two-records, "
        "extra-metric, nan-metric and list-metric arrive there as honest replies. "
        "Names in lower case are this package's rules; `average` is its intake with no robust "
        "rule behind it.\n\n" + table(fates) + accidents
    )
