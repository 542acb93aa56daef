"""A small federation for each of Flower's two APIs, spoken to in the same words."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitres
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy

import flwr_krum.server.strategy as server_strategy
import flwr_krum.serverapp.strategy as serverapp_strategy
from flwr_krum.report import RoundReport
from tests.flwr_krum.npy_bytes import npy

Layers = Sequence[np.ndarray]
Sent = Mapping[Any, Any]
"""What each client sends, in order of arrival: layers, bytes by layer, or an exception."""


class FakeGrid:
    """Nodes that answer at once, by a function of (node id, instruction)."""

    def __init__(self, nodes: Sequence[int], answer: Callable[..., Message | None]) -> None:
        self.nodes, self.answer = list(nodes), answer

    def get_node_ids(self) -> list[int]:
        return self.nodes

    def send_and_receive(self, messages: Iterable[Message], **_: Any) -> list[Message]:
        replies = [self.answer(m.metadata.dst_node_id, m) for m in messages]
        return [reply for reply in replies if reply is not None]


class FakeProxy(ClientProxy):
    """A client that is only a name."""

    def _unused(self, *_: Any) -> Any:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _unused  # type: ignore


def _bytes_by_key(sent: Any) -> dict[str, bytes]:
    """Serialize layers under their positions; bytes pass as they are."""
    items = sent.items() if isinstance(sent, Mapping) else enumerate(sent)
    return {str(key): layer if isinstance(layer, bytes) else npy(layer) for key, layer in items}


def _as_received(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(content))


def sent_array(data: bytes, stype: str = "numpy.ndarray") -> Array:
    return Array(dtype="", shape=(), stype=stype, data=data)


class MessageApi:
    """Rounds through ``aggregate_train``."""

    module = serverapp_strategy
    f_name, m_name = "num_malicious_nodes", "num_nodes_to_select"

    def instruction(self, node: int, content: RecordDict | None = None) -> Message:
        content = RecordDict() if content is None else content
        return Message(content, dst_node_id=node, message_type="train")

    def reply(
        self, node: int, sent: Any, examples: Any = 10, metrics: Mapping[str, Any] | None = None
    ) -> Message:
        to = self.instruction(node)
        if isinstance(sent, Exception):
            return Message(Error(1, str(sent)), reply_to=to)
        if isinstance(sent, RecordDict):
            return Message(sent, reply_to=to)
        arrays = {key: sent_array(data) for key, data in _bytes_by_key(sent).items()}
        record = MetricRecord({"num-examples": examples, **(metrics or {})})
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": record})
        return Message(content, reply_to=to)

    def configure(
        self,
        strategy: Any,
        model: Layers,
        clients: Iterable[Any],
        t: int = 1,
        step: str = "configure_train",
    ) -> dict[int, dict[str, Any]]:
        """Configure a round; return the config that each client that is asked gets."""
        arrays = {key: sent_array(data) for key, data in _bytes_by_key(model).items()}
        grid = FakeGrid([int(client) for client in clients], lambda *_: None)
        messages = getattr(strategy, step)(t, ArrayRecord(arrays), ConfigRecord(), grid)
        return {m.metadata.dst_node_id: dict(m.content["config"]) for m in messages}

    def configure_evaluate(
        self, strategy: Any, model: Layers, clients: Iterable[Any], t: int = 1
    ) -> dict[int, dict[str, Any]]:
        return self.configure(strategy, model, clients, t, "configure_evaluate")

    def content(
        self, model: Mapping[str, np.ndarray], examples: int, metrics: Mapping[str, float]
    ) -> RecordDict:
        """Return an honest reply as Flower itself would write it."""
        arrays = ArrayRecord({key: Array(array) for key, array in model.items()})
        record = MetricRecord({"num-examples": examples, **metrics})
        return RecordDict({"arrays": arrays, "metrics": record})

    def deliver(
        self, strategy: Any, contents: Sequence[tuple[int, RecordDict | Exception]], t: int = 1
    ) -> tuple[dict[str, np.ndarray] | None, dict[str, Any]]:
        """Hand replies to the strategy as they come from the network."""
        replies = []
        for client, content in contents:
            to = self.instruction(client)
            if isinstance(content, Exception):
                replies.append(Message(Error(1, str(content)), reply_to=to))
            else:
                replies.append(Message(_as_received(content), reply_to=to))
        arrays, metrics = strategy.aggregate_train(t, replies)
        model = None if arrays is None else {key: a.numpy() for key, a in arrays.items()}
        return model, dict(metrics or {})

    def aggregate(
        self, strategy: Any, sent: Sent, t: int = 1, **reply: Any
    ) -> tuple[list[np.ndarray] | None, dict[str, Any]]:
        replies = [self.reply(int(client), what, **reply) for client, what in sent.items()]
        arrays, metrics = strategy.aggregate_train(t, replies)
        layers = None if arrays is None else [array.numpy() for array in arrays.values()]
        return layers, dict(metrics or {})

    def evaluate(self, strategy: Any, losses: Mapping[Any, float], t: int = 1) -> dict[str, Any]:
        replies = []
        for client, loss in losses.items():
            record = MetricRecord({"loss": loss, "num-examples": 10})
            replies.append(self.reply(int(client), RecordDict({"metrics": record})))
        return dict(strategy.aggregate_evaluate(t, replies) or {})


class FitApi:
    """Rounds through ``aggregate_fit``."""

    module = server_strategy
    f_name, m_name = "num_malicious_clients", "num_clients_to_keep"

    def result(
        self, sent: Any, examples: Any = 10, metrics: Mapping[str, Any] | None = None
    ) -> FitRes:
        tensors = list(_bytes_by_key(sent).values())
        parameters = Parameters(tensors, "numpy.ndarray")
        return FitRes(Status(Code.OK, ""), parameters, examples, dict(metrics or {}))

    def configure(
        self,
        strategy: Any,
        model: Layers,
        clients: Iterable[Any],
        t: int = 1,
        step: str = "configure_fit",
    ) -> dict[int, dict[str, Any]]:
        """Configure a round; return the config that each client that is asked gets."""
        manager = SimpleClientManager()
        for client in clients:
            manager.register(FakeProxy(str(client)))
        tensors = list(_bytes_by_key(model).values())
        asked = getattr(strategy, step)(t, Parameters(tensors, "numpy.ndarray"), manager)
        return {int(proxy.cid): dict(instruction.config) for proxy, instruction in asked}

    def configure_evaluate(
        self, strategy: Any, model: Layers, clients: Iterable[Any], t: int = 1
    ) -> dict[int, dict[str, Any]]:
        return self.configure(strategy, model, clients, t, "configure_evaluate")

    def content(
        self, model: Mapping[str, np.ndarray], examples: int, metrics: Mapping[str, float]
    ) -> RecordDict:
        """Return an honest reply as Flower itself would write it."""
        parameters = Parameters([npy(array) for array in model.values()], "numpy.ndarray")
        result = FitRes(Status(Code.OK, ""), parameters, examples, dict(metrics))
        return fitres_to_recorddict(result, keep_input=True)

    def deliver(
        self, strategy: Any, contents: Sequence[tuple[int, RecordDict | Exception]], t: int = 1
    ) -> tuple[dict[str, np.ndarray] | None, dict[str, Any]]:
        """Hand replies to the strategy as they come from the network.

        What Flower itself cannot read as a result is a nameless failure.
        """
        results: list[tuple[ClientProxy, FitRes]] = []
        failures: list[Any] = []
        for client, content in contents:
            try:
                if isinstance(content, Exception):
                    raise content
                result = recorddict_to_fitres(_as_received(content), keep_input=False)
            except Exception as error:
                failures.append(error)
            else:
                results.append((FakeProxy(str(client)), result))
        parameters, metrics = strategy.aggregate_fit(t, results, failures)
        if parameters is None:
            return None, metrics
        layers = [np.load(io.BytesIO(tensor)) for tensor in parameters.tensors]
        return {str(i): layer for i, layer in enumerate(layers)}, metrics

    def aggregate(
        self, strategy: Any, sent: Sent, t: int = 1, **reply: Any
    ) -> tuple[list[np.ndarray] | None, dict[str, Any]]:
        results, failures = [], []
        for client, what in sent.items():
            if isinstance(what, Exception):
                failed = FitRes(
                    Status(Code.FIT_NOT_IMPLEMENTED, str(what)), Parameters([], ""), 0, {}
                )
                failures.append((FakeProxy(str(client)), failed))
            else:
                results.append((FakeProxy(str(client)), self.result(what, **reply)))
        parameters, metrics = strategy.aggregate_fit(t, results, failures)
        if parameters is None:
            return None, metrics
        return [np.load(io.BytesIO(tensor)) for tensor in parameters.tensors], metrics

    def evaluate(self, strategy: Any, losses: Mapping[Any, float], t: int = 1) -> dict[str, Any]:
        results = [
            (FakeProxy(str(client)), EvaluateRes(Status(Code.OK, ""), loss, 10, {}))
            for client, loss in losses.items()
        ]
        loss, metrics = strategy.aggregate_evaluate(t, results, [])
        return {"loss": loss, **metrics}


class Federation:
    """One of Flower's two APIs, spoken to in the same words."""

    def __init__(self, api: MessageApi | FitApi) -> None:
        self.api = api
        self.configure, self.configure_evaluate = api.configure, api.configure_evaluate
        self.aggregate, self.evaluate = api.aggregate, api.evaluate
        self.content, self.deliver = api.content, api.deliver
        self.names_arrays = isinstance(api, MessageApi)

    def strategy(self, name: str, f: int | None = None, m: int | None = None, **kw: Any) -> Any:
        """Build a strategy by name, with f and m under the API's own names."""
        if f is not None:
            kw[self.api.f_name] = f
        if m is not None:
            kw[self.api.m_name] = m
        return getattr(self.api.module, name)(**kw)

    def custom(self, rule: Any, **kw: Any) -> Any:
        return self.api.module.RobustAggregation(rule, **kw)

    def clients(self, strategy: Any) -> RoundReport:
        return strategy.reports[-1]

    def name(self, client: int) -> int | str:
        """Return a client's name as this API reports it."""
        return client if isinstance(self.api, MessageApi) else str(client)
