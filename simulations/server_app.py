"""The ServerApp: one federation from its run config, through either of Flower's APIs.

`build_server_app` binds a config and an observer for engines in this process; the module's
``app`` reads everything from Flower's run config (`flwr run .`, real nodes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from logging import INFO
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import NDArrays, Scalar, ndarrays_to_parameters
from flwr.common.logger import log
from flwr.server import ServerAppComponents, ServerConfig
from flwr.serverapp import Grid, ServerApp

from clients.honest import ROUND_KEY
from clients.learning import evaluate, replica
from clients.models import build_model, load_parameters, parameters_of
from clients.tasks import load_task
from flwr_krum.server.strategy import RobustAggregation as FitAggregation
from flwr_krum.serverapp.strategy import RobustAggregation as TrainAggregation
from simulations.config import RunConfig
from simulations.history import HistoryWriter, RoundRecord

Observer = Callable[[RoundRecord], None]

NODES_TIMEOUT = 120.0
"""Seconds to wait for the configured number of nodes."""


def build_server_app(
    config: Mapping[str, Any] | None = None, observer: Observer | None = None
) -> ServerApp:
    """Build a ServerApp.

    Parameters
    ----------
    config : mapping, optional
        Run config beneath that of the context, for engines that carry none.
    observer : callable, RoundRecord -> None, optional
        Called after every round.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_config = RunConfig.from_config({**(config or {}), **context.run_config})
        names = _name_nodes(grid, run_config.settings.num_clients)
        with HistoryWriter(Path(run_config.run_dir), run_config.to_config()) as history:
            federation = _Federation(run_config, names, history, observer or _log_round)
            if run_config.api == "message":
                federation.run_messages(grid)
            else:
                federation.run_fit(grid, context)
            history.save_model(federation.model)

    return app


class _Federation:
    """One run: its strategy, its test set, and its model as it goes."""

    def __init__(
        self,
        config: RunConfig,
        names: Mapping[int, int],
        history: HistoryWriter,
        observer: Observer,
    ) -> None:
        settings = config.settings
        initial = build_model(settings.task, settings.model, settings.seed)
        self.model = parameters_of(initial)
        self._config = config
        self._names = names
        self._history = history
        self._observer = observer
        self._task = load_task(settings)
        self._strategy: TrainAggregation | FitAggregation

    def run_messages(self, grid: Grid) -> None:
        """Run the rounds through `aggregate_train`."""
        n = self._config.settings.num_clients
        self._strategy = TrainAggregation(
            self._config.build_rule(),
            fraction_evaluate=0.0,
            min_train_nodes=n,
            min_available_nodes=n,
            server_learning_rate=self._config.server_learning_rate,
            on_infeasible="skip" if self._config.strict else "degrade",
            client_id=self._names.__getitem__,
        )
        self._strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord({key: Array(a) for key, a in self.model.items()}),
            num_rounds=self._config.num_server_rounds,
            evaluate_fn=self._after_message_round,
        )

    def run_fit(self, grid: Grid, context: Context) -> None:
        """Run the rounds through `aggregate_fit`."""
        n = self._config.settings.num_clients
        self._strategy = FitAggregation(
            self._config.build_rule(),
            fraction_evaluate=0.0,
            min_fit_clients=n,
            min_evaluate_clients=0,
            min_available_clients=n,
            initial_parameters=ndarrays_to_parameters(list(self.model.values())),
            on_fit_config_fn=lambda server_round: {ROUND_KEY: server_round},
            evaluate_fn=self._after_fit_round,
            server_learning_rate=self._config.server_learning_rate,
            on_infeasible="skip" if self._config.strict else "degrade",
            client_id=lambda client: self._names[int(client.cid)],
        )
        components = ServerAppComponents(
            strategy=self._strategy,
            config=ServerConfig(num_rounds=self._config.num_server_rounds),
        )
        ServerApp(server_fn=lambda _: components)(grid, context)

    def _after_message_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        record = self._after_round(server_round, arrays.to_numpy_ndarrays())
        if record.accuracy is None or record.loss is None:
            return None
        return MetricRecord({"accuracy": record.accuracy, "loss": record.loss})

    def _after_fit_round(
        self, server_round: int, arrays: NDArrays, _: dict[str, Scalar]
    ) -> tuple[float, dict[str, Scalar]] | None:
        record = self._after_round(server_round, arrays)
        if record.accuracy is None or record.loss is None:
            return None
        return record.loss, {"accuracy": record.accuracy}

    def _after_round(self, server_round: int, arrays: NDArrays) -> RoundRecord:
        """Evaluate the model where it is due, and write the round down."""
        self.model = dict(zip(self.model, arrays, strict=True))
        last = server_round == self._config.num_server_rounds
        loss = accuracy = None
        if last or server_round % self._config.evaluate_every == 0:
            model = replica(self._config.settings)
            load_parameters(model, arrays)
            loss, accuracy = evaluate(model, self._task.test_x, self._task.test_y)
        record = RoundRecord(server_round, accuracy, loss, **self._what_happened(server_round))
        self._history.append(record)
        self._observer(record)
        return record

    def _what_happened(self, server_round: int) -> dict[str, Any]:
        if server_round == 0:
            return {}
        report = self._strategy.reports[-1]
        byzantine = self._config.byzantine_clients()
        return {
            "selected": report.selected,
            "byzantine_selected": len(byzantine.intersection(report.selected)),
            "refused": {str(refused.client): refused.reason for refused in report.refused},
            "stepped": report.stepped,
        }


def _name_nodes(grid: Grid, n: int) -> dict[int, int]:
    """Ask every node for its partition and return partition ids by node id.

    Node ids are drawn anew in every run on Ray; partitions are not, so that naming clients by
    them makes runs repeatable on every engine.

    Raises
    ------
    RuntimeError
        If other than n nodes are there, or two claim the same partition.
    """
    deadline = time.monotonic() + NODES_TIMEOUT
    while len(nodes := list(grid.get_node_ids())) < n and time.monotonic() < deadline:
        time.sleep(0.2)
    if len(nodes) != n:
        raise RuntimeError(
            f"{len(nodes)} nodes are connected, but num-clients is {n}: set one to the other "
            f"(flwr run . --federation-config 'num-supernodes={n}')"
        )
    questions = [Message(RecordDict(), node, "query") for node in nodes]
    names: dict[int, int] = {}
    for reply in grid.send_and_receive(questions):
        if reply.has_error():
            raise RuntimeError(f"a node cannot say its partition: {reply.error.reason}")
        partition = reply.content.metric_records["node"]["partition-id"]
        names[reply.metadata.src_node_id] = int(partition)  # type: ignore[arg-type]
    if sorted(names.values()) != list(range(n)):
        raise RuntimeError(f"partitions {sorted(names.values())}, expected each of 0 to {n - 1}")
    return names


def _log_round(record: RoundRecord) -> None:
    if record.accuracy is not None:
        log(INFO, "round %s: test accuracy %.4f", record.round, record.accuracy)


app = build_server_app()
