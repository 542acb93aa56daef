"""What the plugin's tests share: independent references, npy bytes, a small federation per API.

The references are plain loops over Python floats or fractions and share no code with the
package.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitres
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.supercore.task_identity import TaskIdentity

import flwr_krum.server.strategy as server_strategy
import flwr_krum.serverapp.strategy as serverapp_strategy
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.report import RoundReport

# --- references -----------------------------------------------------------------------------


def squared_distances(V: Any, number: Callable[[float], Any] = float) -> list[list[Any]]:
    """Return all squared distances by the definition, in floats or in fractions."""
    rows = [[number(float(x)) for x in row] for row in V]
    n = len(rows)
    squared = [[number(0.0)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i):
            total = sum((a - b) * (a - b) for a, b in zip(rows[i], rows[j], strict=True))
            squared[i][j] = squared[j][i] = total
    return squared


def krum_scores(squared: Sequence[Sequence[Any]], neighbours: int) -> list[Any]:
    """Sum, for each client, the squared distances to its closest others."""
    scores = []
    for i, row in enumerate(squared):
        others = sorted(row[j] for j in range(len(row)) if j != i)[:neighbours]
        exact = others and isinstance(others[0], Fraction)
        scores.append(sum(others, Fraction(0)) if exact else math.fsum(others))
    return scores


def medoid_scores(squared: Sequence[Sequence[float]]) -> list[float]:
    """Sum, for each client, the unsquared distances to all others.

    Rounded to nine digits: sums of square roots that are equal may differ in the last bit.
    """
    return [float(f"{math.fsum(math.sqrt(x) for x in row):.9e}") for row in squared]


def exact_medoid_scores(squared: Sequence[Sequence[Fraction]]) -> list[Decimal]:
    """Sum the distances with 800 digits and keep 750, so that equal sums compare equal."""
    sums = []
    for row in squared:
        with localcontext() as context:
            context.prec = 800
            roots = [(Decimal(x.numerator) / Decimal(x.denominator)).sqrt() for x in row]
            total = sum(roots, Decimal(0))
            context.prec = 750
            sums.append(+total)
    return sums


def best(scores: Sequence[Any], count: int) -> tuple[int, ...]:
    """Return the indices of the smallest scores, ties to the smallest index."""
    return tuple(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:count])


@pytest.fixture(scope="session")
def reference() -> SimpleNamespace:
    return SimpleNamespace(
        squared_distances=squared_distances,
        exact_distances=lambda V: squared_distances(V, Fraction),
        krum_scores=krum_scores,
        medoid_scores=medoid_scores,
        exact_medoid_scores=exact_medoid_scores,
        best=best,
    )


@dataclass(frozen=True)
class Draw:
    """A random input of n vectors, a legal f, and its distances by the float64 loop."""

    V: np.ndarray
    f: int
    squared: list[list[float]]


DRAW_KINDS = ("small whole numbers", "scalars", "repeated vectors", "generic")


def _draw(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    d = int(rng.integers(1, 7))
    if kind == "small whole numbers":
        return rng.integers(-2, 3, (n, d)).astype(float)
    if kind == "scalars":
        return rng.integers(0, 30, (n, 1)).astype(float)
    if kind == "repeated vectors":
        return rng.standard_normal((n, d))[rng.integers(0, max(2, n // 2), n)]
    return rng.standard_normal((n, d)) * 10.0 ** rng.integers(-2, 3)


@pytest.fixture(scope="session")
def thousand_draws() -> dict[str, list[Draw]]:
    """1,000 inputs that cover every n from 5 to 60 with every legal f, by kind."""
    pairs = [(n, f) for n in range(5, 61) for f in range((n - 3) // 2 + 1)]
    random.Random(0).shuffle(pairs)
    assert len(pairs) < 1000
    rng = np.random.default_rng(20171204)
    draws: dict[str, list[Draw]] = {kind: [] for kind in DRAW_KINDS}
    for k in range(1000):
        n, f = pairs[k % len(pairs)]
        kind = DRAW_KINDS[k % len(DRAW_KINDS)]
        V = _draw(kind, n, rng)
        draws[kind].append(Draw(V, f, squared_distances(V)))
    return draws


def _hostile(V: np.ndarray, f: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Replace f rows, the first among them, by vectors of the given scale."""
    rows = [0, *rng.choice(np.arange(1, len(V)), max(0, f - 1), replace=False)][:f]
    V = V.copy()
    V[rows] = scale * rng.standard_normal((len(rows), V.shape[1]))
    return V


HARD = {
    "an offset of a million updates": lambda n, d, f, rng: (
        1e3 * rng.standard_normal(d) + 1e-3 * rng.standard_normal((n, d))
    ),
    "multiples of 0.1": lambda n, d, f, rng: 0.1 * rng.integers(0, 6, (n, d)),
    "tenths and thousandths": lambda n, d, f, rng: (
        rng.integers(0, 4, (n, d)) / 10 + rng.integers(0, 3, (n, d)) / 1000
    ),
    "neighbouring floats": lambda n, d, f, rng: 1.0 + 2.0**-52 * rng.integers(0, 8, (n, d)),
    "hostile 1e30": lambda n, d, f, rng: _hostile(1e-3 * rng.standard_normal((n, d)), f, 1e30, rng),
    "hostile 1e300": lambda n, d, f, rng: _hostile(
        1e-3 * rng.standard_normal((n, d)), f, 1e300, rng
    ),
    "hostile 1e16 beside multiples of 0.1": lambda n, d, f, rng: _hostile(
        0.1 * rng.integers(0, 4, (n, d)), f, 1e16, rng
    ),
    "all 1e-200": lambda n, d, f, rng: 1e-200 * rng.standard_normal((n, d)),
    "all 1e200": lambda n, d, f, rng: 1e200 * rng.standard_normal((n, d)),
    "float16 near its largest": lambda n, d, f, rng: (6e4 * rng.uniform(-1, 1, (n, d))).astype(
        np.float16
    ),
    "float16 halves": lambda n, d, f, rng: (rng.integers(-3, 3, (n, d)) / 2).astype(np.float16),
    "float32 beside an offset": lambda n, d, f, rng: (
        1e3 + 1e-3 * rng.standard_normal((n, d))
    ).astype(np.float32),
    "float32 whose squares underflow": lambda n, d, f, rng: (
        1e-30 * rng.standard_normal((n, d))
    ).astype(np.float32),
    "float32 of 3e19, whose squares overflow": lambda n, d, f, rng: (
        3e19 * rng.standard_normal((n, d))
    ).astype(np.float32),
    "float32 denormals": lambda n, d, f, rng: (1e-42 * rng.standard_normal((n, d))).astype(
        np.float32
    ),
    "float32 near ties": lambda n, d, f, rng: (
        np.eye(n, max(n, d))[:, rng.permutation(max(n, d))]
        + 2.0**-20 * rng.integers(0, 3, (n, max(n, d)))
    ).astype(np.float32),
    "float32 beside a hostile 1e30": lambda n, d, f, rng: _hostile(
        1e-3 * rng.standard_normal((n, d)), f, 1e30, rng
    ).astype(np.float32),
    "near ties at 1e-12": lambda n, d, f, rng: (
        np.eye(n, max(n, d)) + 1e-12 * rng.standard_normal((n, max(n, d)))
    ),
    "duplicates": lambda n, d, f, rng: rng.standard_normal((n, d))[rng.integers(0, n // 2, n)],
}


def hard_draw(kind: str, n: int, rng: np.random.Generator) -> SimpleNamespace:
    """Return n vectors on which rounding decides, a legal f, and the exact distances."""
    f = int(rng.integers(0, (n - 3) // 2 + 1)) if n < 26 else (n - 3) // 2
    V = HARD[kind](n, int(rng.integers(1, 5)), f, rng)
    return SimpleNamespace(V=V, f=f, squared=squared_distances(V, Fraction))


@pytest.fixture(scope="session", params=HARD)
def hard_draws(request: pytest.FixtureRequest) -> list[SimpleNamespace]:
    """Inputs on which rounding decides; n = 26 and 30 are among them."""
    rng = np.random.default_rng(list(HARD).index(request.param))
    sizes = (5, 5, 6, 7, 7, 8, 8, 9, 10, 11, 12, 13, 14, 17, 20, 26, 30)
    return [hard_draw(request.param, n, rng) for n in sizes]


@pytest.fixture(scope="session", params=HARD)
def many_hard_draws(request: pytest.FixtureRequest) -> Iterable[SimpleNamespace]:
    """A share of ten thousand such inputs, made one by one."""
    rng = np.random.default_rng(1000 + list(HARD).index(request.param))
    each = -(-10_000 // len(HARD))
    sizes = rng.choice([5, 6, 7, 8, 9, 10, 13, 26, 30], each, p=[0.15] * 6 + [0.06, 0.02, 0.02])
    return (hard_draw(request.param, int(n), rng) for n in sizes)


@pytest.fixture(params=["cpu:numpy", "cpu:numba"])
def device(request: pytest.FixtureRequest) -> str:
    """The ways in which a CPU can compute."""
    if request.param == "cpu:numba":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.fixture(scope="session")
def updates_of() -> Callable[..., ClientUpdates]:
    """Make updates of the rows of a matrix, each a model of one layer."""
    return lambda V, device="cpu": ClientUpdates.from_layers([[row] for row in V], device=device)


# --- bytes ----------------------------------------------------------------------------------


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    """Return what numpy itself writes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version=version)
    return file.getvalue()


def forge(header: str, body: bytes = b"", version: int = 1) -> bytes:
    """Return an npy file with a header of one's own."""
    text = header.encode("latin1")
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text + body


def forged_header(descr: str = "'<f4'", shape: str = "(3,)", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@pytest.fixture(scope="session")
def wire() -> SimpleNamespace:
    return SimpleNamespace(npy=npy, forge=forge, header=forged_header)


# --- federations ----------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _task_identity() -> Iterable[None]:
    """Let Flower's instruction messages be built outside a run."""
    names = ("_task_id", "_run_id", "_node_id")
    before = [getattr(TaskIdentity, name) for name in names]
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    yield
    for name, value in zip(names, before, strict=True):
        setattr(TaskIdentity, name, value)


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


def _over_the_wire(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(content))


def wire_array(data: bytes, stype: str = "numpy.ndarray") -> Array:
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
        arrays = {key: wire_array(data) for key, data in _bytes_by_key(sent).items()}
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
        arrays = {key: wire_array(data) for key, data in _bytes_by_key(model).items()}
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
                replies.append(Message(_over_the_wire(content), reply_to=to))
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
                result = recorddict_to_fitres(_over_the_wire(content), keep_input=False)
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


@pytest.fixture(scope="session", params=[MessageApi, FitApi], ids=["serverapp", "server"])
def federation(request: pytest.FixtureRequest) -> Federation:
    return Federation(request.param())


@pytest.fixture(scope="session")
def message_api() -> SimpleNamespace:
    return SimpleNamespace(api=MessageApi(), Grid=FakeGrid, wire_array=wire_array)


@pytest.fixture(scope="session")
def fit_api() -> SimpleNamespace:
    return SimpleNamespace(api=FitApi(), Proxy=FakeProxy)
