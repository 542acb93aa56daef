"""The ServerApp: one federation from its run config, through either of Flower's APIs.

`build_server_app` binds a config and an observer for engines in this process; the module's
``app`` reads everything from Flower's run config (`flwr run .`, real nodes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from logging import INFO
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import NDArrays, Scalar, ndarrays_to_parameters
from flwr.common.logger import log
from flwr.server import ServerAppComponents, ServerConfig
from flwr.serverapp import Grid, ServerApp

from clients.honest import ROUND_KEY
from clients.learning import evaluate, replica
from clients.models import build_model, load_parameters, parameters_of
from clients.tasks import load_task
from flwr_krum.journal import Unsynced
from flwr_krum.round import RoundOptions
from flwr_krum.server.strategy import RobustAggregation as FitAggregation
from flwr_krum.serverapp.records import from_record, to_record
from flwr_krum.serverapp.strategy import RobustAggregation as TrainAggregation
from flwr_krum.updates import Array
from simulations.config import RunConfig
from simulations.history import (
    JOURNAL_FILE,
    MODEL_FILE,
    HistoryWriter,
    RoundRecord,
    read_config,
    read_history,
    read_model,
)
from simulations.origin import Origin
from simulations.tensorboard import Scalars, writer_for

Observer = Callable[[RoundRecord], None]

MAY_CHANGE = (
    "num-server-rounds", "evaluate-every", "run-dir", "resume", "tensorboard", "data-dir",
)  # fmt: skip
"""Keys in which a resumed run may differ from its beginning."""

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
        if run_config.tensorboard:
            writer_for(run_config.tensorboard)  # raises before an older run is replaced
        names = _name_nodes(grid, run_config.settings.num_clients)
        done, model, past = _start_of(run_config)
        with (
            _scalars_of(run_config, done) as scalars,
            HistoryWriter(Path(run_config.run_dir), run_config.to_config(), past) as history,
        ):
            federation = _Federation(
                run_config, names, done, model, history, scalars, observer or _log_round
            )
            Origin.now(federation.data).write(Path(run_config.run_dir))
            if run_config.api == "message":
                federation.run_messages(grid)
            else:
                federation.run_fit(grid, context)

    return app


class _Federation:
    """One run: its strategy, its test set, and its model as it goes."""

    def __init__(
        self,
        config: RunConfig,
        names: Mapping[int, int],
        done: int,
        model: dict[str, Array],
        history: HistoryWriter,
        scalars: Scalars | None,
        observer: Observer,
    ) -> None:
        self._config = config
        self._names = names
        self._done = done
        self._model = model
        self._history = history
        self._scalars = scalars
        self._observer = observer
        self._task = load_task(config.settings)
        self._strategy: TrainAggregation | FitAggregation
        self._shared: RoundOptions = {
            "server_learning_rate": config.server_learning_rate,
            "on_infeasible": "skip" if config.strict else "degrade",
            "quarantine": config.quarantine or None,
            # As durable as the model beside it: a run that is killed goes on, one whose machine
            # loses power may have to start again.
            "journal": Unsynced(Path(config.run_dir, JOURNAL_FILE)),
            "rounds_done": done,
        }

    @property
    def data(self) -> str:
        """Where the data came from, in words."""
        return self._task.source

    def _name_of(self, node: int) -> int | str:
        """Return a node's partition; who joined later, or the SuperLink itself, has none."""
        return self._names.get(node, f"node {node}")

    def run_messages(self, grid: Grid) -> None:
        """Run the rounds through `aggregate_train`."""
        n = self._config.settings.num_clients
        self._strategy = TrainAggregation(
            self._config.build_rule(),
            fraction_evaluate=0.0,
            min_train_nodes=n,
            min_available_nodes=n,
            client_id=self._name_of,
            **self._shared,
        )
        self._strategy.start(
            grid=grid,
            initial_arrays=to_record(self._model),
            num_rounds=self._config.num_server_rounds - self._done,
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
            initial_parameters=ndarrays_to_parameters(list(self._model.values())),
            on_fit_config_fn=lambda server_round: {ROUND_KEY: server_round},
            evaluate_fn=self._after_fit_round,
            client_id=lambda client: self._name_of(int(client.cid)),
            **self._shared,
        )
        components = ServerAppComponents(
            strategy=self._strategy,
            config=ServerConfig(num_rounds=self._config.num_server_rounds - self._done),
        )
        ServerApp(server_fn=lambda _: components)(grid, context)

    def _after_message_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        # This API counts the rounds of this start; the other one's strategy says which it is.
        record = self._after_round(server_round + self._done, list(from_record(arrays).values()))
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
        """Evaluate the model where it is due, and write the round down."""
        if server_round == self._done > 0:
            return None  # the model that this start goes on from is on record
        last = server_round == self._config.num_server_rounds
        loss = accuracy = None
        if last or server_round % self._config.evaluate_every == 0:
            model = replica(self._config.settings)
            load_parameters(model, arrays)
            loss, accuracy = evaluate(model, self._task.test_x, self._task.test_y)
        record = RoundRecord(server_round, accuracy, loss, **self._what_happened(server_round))
        self._history.append(record, dict(zip(self._model, arrays, strict=True)))
        if self._scalars:
            report = self._strategy.reports[-1] if server_round > 0 else None
            self._scalars.add(record, report)
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


def _scalars_of(config: RunConfig, done: int) -> AbstractContextManager[Scalars | None]:
    if not config.tensorboard:
        return nullcontext()
    return Scalars(config.tensorboard, first=done + 1 if done else 0)


def _start_of(config: RunConfig) -> tuple[int, dict[str, Array], list[RoundRecord]]:
    """Return what a run starts from: rounds done, the model, and their records.

    Raises
    ------
    ValueError
        If the run in the folder was another one, or is over.
    """
    folder = Path(config.run_dir)
    if not config.resume or not (folder / MODEL_FILE).exists():
        return _beginning(config)
    before, now = read_config(folder), config.to_config()
    others = sorted(
        key for key in now if key not in MAY_CHANGE and before.get(key, now[key]) != now[key]
    )
    if others:
        changes = ", ".join(f"{key} was {before[key]!r} and is {now[key]!r}" for key in others)
        raise ValueError(f"{folder} holds another run: {changes}")
    done, model = read_model(folder)
    if done >= config.num_server_rounds:
        raise ValueError(
            f"{folder} holds {done} rounds, num-server-rounds is {config.num_server_rounds}: "
            "nothing is left to do"
        )
    if done == 0:
        return _beginning(config)
    return done, model, [record for record in read_history(folder) if record.round <= done]


def _beginning(config: RunConfig) -> tuple[int, dict[str, Array], list[RoundRecord]]:
    """Clear the folder of an older run's rounds, and return the initial model."""
    for name in (MODEL_FILE, JOURNAL_FILE):
        Path(config.run_dir, name).unlink(missing_ok=True)
    settings = config.settings
    return 0, parameters_of(build_model(settings.task, settings.model, settings.seed)), []


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
