"""The ServerApp: one federation from its run config, through either of Flower's APIs.

`build_server_app` binds a config and an observer for engines in this process; the module's
``app`` reads everything from Flower's run config (`flwr run .`, real nodes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common import NDArrays, Scalar, ndarrays_to_parameters
from flwr.common.logger import log
from flwr.server import Server, ServerAppComponents, ServerConfig, SimpleClientManager
from flwr.serverapp import Grid, ServerApp

# The package first, and not its parts: Flower's engine loads the ClientApp in another thread at the
# same time, and two threads that begin at different parts of it get one that is half there.
from clients import Task, evaluate, load_parameters, load_task, shards_of
from clients.honest import ROUND_KEY
from clients.learning.steps import predicted, replica
from clients.root import RootLearner
from flwr_krum.attacks.attack import trigger_of
from flwr_krum.boundary.nodes import name_nodes
from flwr_krum.boundary.records import from_record, to_record
from flwr_krum.boundary.replies import ClientId
from flwr_krum.journal import Journal
from flwr_krum.report import RoundReport
from flwr_krum.server.strategy import RobustAggregation as FitAggregation
from flwr_krum.serverapp.strategy import RobustAggregation as TrainAggregation
from flwr_krum.settings import RoundOptions
from simulations.run.config import RunConfig
from simulations.run.folder import alone_in
from simulations.run.history import DISTANCES_FILE, JOURNAL_FILE, HistoryWriter, RoundRecord
from simulations.run.nodes import RoundGrid, wait_for_nodes
from simulations.run.origin import Origin
from simulations.run.start import Start, start_of
from simulations.run.tensorboard import Scalars, writer_for

Observer = Callable[[RoundRecord], None]

NODES_TIMEOUT = 120.0
"""Seconds to wait for the configured number of nodes."""


def build_server_app(
    config: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    factor: Callable[[], float | None] = lambda: None,
) -> ServerApp:
    """Build a ServerApp.

    Parameters
    ----------
    config : mapping, optional
        Run config beneath that of the context, for engines that carry none.
    observer : callable, RoundRecord -> None, optional
        Called after every round.
    factor : callable
        Says what the attack chose in a round, where the engine sees its clients.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_config = RunConfig.from_config({**(config or {}), **context.run_config})
        if run_config.tensorboard:
            writer_for(run_config.tensorboard)  # raises before an older run is replaced
        with alone_in(Path(run_config.run_dir)):
            _run(run_config, grid, context, observer or _log_round, factor)

    return app


def _run(
    config: RunConfig,
    grid: Grid,
    context: Context,
    observer: Observer,
    factor: Callable[[], float | None],
) -> None:
    least = config.build_rule().least_clients
    bounded = RoundGrid(grid, config.round_timeout, least)
    names = _gather(bounded, config.settings.num_clients, least)
    task = load_task(config.settings)  # what can fail comes before an older run is replaced
    shards_of(config.settings, task)
    folder = Path(config.run_dir)
    start = start_of(config)
    with (
        _scalars_of(config, start.done) as scalars,
        HistoryWriter(folder, config.to_config(), start.past) as history,
        # As durable as the model beside it: a run that is killed goes on, one whose machine
        # loses power may have to start again.
        Journal(folder / JOURNAL_FILE, start.done, sync=False) as journal,
    ):
        Origin.now(task.source).write(folder)
        federation = _Federation(
            config, bounded, names, task, start, history, journal, scalars, observer, factor
        )
        if config.api == "message":
            federation.run_messages()
        else:
            federation.run_fit(context)


class _Federation:
    """One run: its strategy, its test set, and its model as it goes."""

    def __init__(
        self,
        config: RunConfig,
        grid: RoundGrid,
        names: Mapping[int, ClientId],
        task: Task,
        start: Start,
        history: HistoryWriter,
        journal: Journal,
        scalars: Scalars | None,
        observer: Observer,
        factor: Callable[[], float | None],
    ) -> None:
        self._config = config
        self._grid = grid
        self._names = names
        self._done = start.done
        self._model = start.model
        self._history = history
        self._journal = journal
        self._scalars = scalars
        self._observer = observer
        self._factor = factor
        self._task = task
        self._trigger = trigger_of(config.settings.build_attack())
        if self._trigger is not None:
            self._marked_x = torch.from_numpy(self._trigger.triggered(task.test_x.numpy()))
        self._strategy: TrainAggregation | FitAggregation
        self._shared: RoundOptions = {
            "server_learning_rate": config.server_learning_rate,
            "server_optimizer": config.build_optimizer(),
            "server_optimizer_state": start.state,
            "server_last_step": start.last_step,
            "on_infeasible": "skip" if config.build_rule().strict else "degrade",
            "quarantine": config.quarantine or None,
            "quorum": config.quorum or None,
            "journal": journal,
            "rounds_done": start.done,
            "certificate": config.certificate,
            "require": "certificate" if config.require == "certificate" else None,
            "distances": Path(config.run_dir, DISTANCES_FILE) if config.distances else None,
            # The laboratory shows what a rule does by itself.
            "largest_step": math.inf,
            "root": RootLearner(config.settings, task, start.done) if config.needs_root else None,
        }

    def _name_of(self, node: int) -> ClientId:
        """Return a node's name; who has none of its own, or joined later, goes by the node id."""
        return self._names.get(node, f"node {node}")

    def run_messages(self) -> None:
        """Run the rounds through `aggregate_train`.

        The strategy asks for no least number of nodes, for it would wait for them without end:
        the grid waits for as many as the rule needs, and a round on fewer is skipped.
        """
        self._strategy = TrainAggregation(
            self._config.build_rule(),
            fraction_evaluate=0.0,
            min_train_nodes=0,
            min_available_nodes=0,
            client_id=self._name_of,
            **self._shared,
        )
        self._strategy.start(
            grid=self._grid,
            initial_arrays=to_record(self._model),
            num_rounds=self._config.num_server_rounds - self._done,
            evaluate_fn=self._after_message_round,
        )

    def run_fit(self, context: Context) -> None:
        """Run the rounds through `aggregate_fit`; as for `run_messages`."""
        self._strategy = FitAggregation(
            self._config.build_rule(),
            fraction_evaluate=0.0,
            min_fit_clients=0,
            min_evaluate_clients=0,
            min_available_clients=0,
            initial_parameters=ndarrays_to_parameters(list(self._model.values())),
            on_fit_config_fn=lambda server_round: {ROUND_KEY: server_round},
            evaluate_fn=self._after_fit_round,
            client_id=lambda client: self._name_of(int(client.cid)),
            **self._shared,
        )
        server = Server(client_manager=SimpleClientManager(), strategy=self._strategy)
        # One thread each: with fewer, Flower asks the clients in waves, each a round trip long.
        server.set_max_workers(self._config.settings.num_clients)
        rounds = ServerConfig(num_rounds=self._config.num_server_rounds - self._done)
        components = ServerAppComponents(server=server, config=rounds)
        ServerApp(server_fn=lambda _: components)(self._grid, context)

    def _after_message_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        model = from_record(arrays)
        record = self._after_round(server_round, [model[key] for key in self._model])
        if record is None or record.accuracy is None or record.loss is None:
            return None
        return MetricRecord({"accuracy": record.accuracy, "loss": record.loss})

    def _after_fit_round(
        self, server_round: int, arrays: NDArrays, _: dict[str, Scalar]
    ) -> tuple[float, dict[str, Scalar]] | None:
        record = self._after_round(server_round, arrays)
        if record is None or record.accuracy is None or record.loss is None:
            return None
        return record.loss, {"accuracy": record.accuracy}

    def _after_round(self, server_round: int, arrays: NDArrays) -> RoundRecord | None:
        """Write the round down, and have the next one begin."""
        record = None
        if server_round > self._done or server_round == 0:  # else it is on record
            record = self._write_down(server_round, arrays)
        if server_round < self._config.num_server_rounds:
            self._grid.begin_round()
        return record

    def _write_down(self, server_round: int, arrays: NDArrays) -> RoundRecord:
        """Evaluate the model where it is due, and write the round down."""
        last = server_round == self._config.num_server_rounds
        loss = accuracy = success = None
        if last or server_round % self._config.evaluate_every == 0:
            model = replica(self._config.settings)
            load_parameters(model, arrays)
            loss, accuracy = evaluate(model, self._task.test_x, self._task.test_y)
            if self._trigger is not None:
                taken = predicted(model, self._marked_x).numpy()
                success = self._trigger.success(taken, self._task.test_y.numpy())
        happened = self._what_happened(server_round)
        factor = self._factor() if server_round else None
        record = RoundRecord(
            server_round, accuracy, loss, **happened, attack_success=success, factor=factor
        )
        named = dict(zip(self._model, arrays, strict=True))
        remembered = {**self._strategy.optimizer_state, **self._strategy.last_step}
        self._history.append(record, named, remembered)
        if self._scalars:
            self._scalars.add(record, self._strategy.last_report if server_round > 0 else None)
        self._observer(record)
        return record

    def _what_happened(self, server_round: int) -> dict[str, Any]:
        if server_round == 0:
            return {}
        report = self._strategy.last_report
        if report is None or report.server_round != server_round:
            self._journal.append(self._nobody(server_round))
            return {}
        byzantine = self._config.byzantine_clients()
        return {
            "selected": report.selected,
            "byzantine_selected": len(byzantine.intersection(report.selected)),
            "refused": {str(refused.client): refused.reason for refused in report.refused},
            "stepped": report.stepped,
        }

    def _nobody(self, server_round: int) -> RoundReport:
        """Return the report of a round in which the strategy had nobody to ask."""
        rule, f = self._config.build_rule(), self._config.settings.f
        return RoundReport(server_round, str(rule), f, note="nobody was connected")


def _scalars_of(config: RunConfig, done: int) -> AbstractContextManager[Scalars | None]:
    if not config.tensorboard:
        return nullcontext()
    return Scalars(config.tensorboard, first=done + 1 if done else 0)


def _gather(grid: RoundGrid, n: int, least: int) -> dict[int, ClientId]:
    """Wait for the nodes and return their names, by node id.

    Node ids are drawn anew in every run on Ray; names are not, so that naming clients by them
    makes runs repeatable on every engine.

    Raises
    ------
    RuntimeError
        If the rule cannot run on those that come and can say who they are.
    """
    nodes = wait_for_nodes(grid, n, NODES_TIMEOUT)
    names, problems = name_nodes(grid)
    if len(names) < least:
        why = f": {problems[0]}" if problems else ""
        raise RuntimeError(
            f"{len(nodes)} nodes are connected and {len(names)} of them have a name, but "
            f"num-clients is {n} and the rule needs {least}{why}: set one to the other "
            f"(flwr run . --federation-config 'num-supernodes={n}')"
        )
    if len(nodes) != n:
        log(WARNING, "%s nodes are connected, but num-clients is %s", len(nodes), n)
    for problem in problems:
        log(WARNING, "%s", problem)
    return names


def _log_round(record: RoundRecord) -> None:
    if record.accuracy is not None:
        log(INFO, "round %s: test accuracy %.4f", record.round, record.accuracy)


app = build_server_app()
