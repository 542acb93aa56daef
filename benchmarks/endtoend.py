"""From received bytes to the encoded model: whole strategies, this package's beside Flower's.

The clients' replies are what Flower hands to a strategy: npy bytes in `FitRes` or in messages. The
global model has been sent out before the clock starts, as in any round.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import flwr.server.strategy as flower_fit
import flwr.serverapp.strategy as flower_train
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from numpy.typing import NDArray

import flwr_krum.server.strategy as our_fit
import flwr_krum.serverapp.strategy as our_train
from benchmarks.data import Case
from benchmarks.measure import Patience, in_turns
from benchmarks.peers import (
    LEGACY,
    MESSAGE,
    NUMPY,
    OURS,
    AbsentError,
    agree,
    as_contents,
    device_of,
)
from benchmarks.results import Result
from simulations.engines.engines import quiet_flower
from simulations.engines.inprocess import InProcessGrid

Call = Callable[[], Any]
FIT, TRAIN = "aggregate_fit", "aggregate_train"


@quiet_flower()
def aggregate_fit(case: Case, patience: Patience) -> list[Result]:
    """Measure Krum (m = 1) through `aggregate_fit`."""
    proxies = [_Proxy(str(i)) for i in range(case.n)]
    results = [
        (proxy, FitRes(Status(Code.OK, ""), ndarrays_to_parameters(list(model)), 1, {}))
        for proxy, model in zip(proxies, case.models, strict=True)
    ]
    manager = SimpleClientManager()
    for proxy in proxies:
        manager.register(proxy)
    parameters = ndarrays_to_parameters(list(case.reference))

    def call(strategy: Any) -> Call:
        strategy.configure_fit(1, parameters, manager)
        return lambda: strategy.aggregate_fit(2, results, [])[0]

    options: dict[str, Any] = {"num_malicious_clients": case.f, "min_available_clients": case.n}
    calls = {LEGACY: call(flower_fit.Krum(**options))}
    for name, device in _devices().items():
        calls[name] = call(our_fit.Krum(**options, device=device))
    return _measured(FIT, case, calls, _from_parameters, patience)


@quiet_flower()
def aggregate_train(case: Case, patience: Patience) -> list[Result]:
    """Measure Multi-Krum (m = n - f) through `aggregate_train`."""
    contents = as_contents(case)
    app = ClientApp()

    @app.train()
    def reply(message: Message, context: Context) -> Message:
        return Message(contents[int(context.node_config["partition-id"])], reply_to=message)

    grid = InProcessGrid(app, case.n)
    arrays = ArrayRecord(list(case.reference))
    flower = flower_train.MultiKrum(
        num_malicious_nodes=case.f,
        num_nodes_to_select=case.n - case.f,
        min_available_nodes=case.n,
    )
    messages = flower.configure_train(1, arrays, ConfigRecord(), grid)
    replies = list(grid.send_and_receive(messages))

    def call(strategy: Any) -> Call:
        strategy.configure_train(1, arrays, ConfigRecord(), grid)
        return lambda: strategy.aggregate_train(1, replies)[0]

    calls: dict[str, Call] = {MESSAGE: lambda: flower.aggregate_train(1, replies)[0]}
    for name, device in _devices().items():
        strategy = our_train.MultiKrum(
            num_malicious_nodes=case.f, min_available_nodes=case.n, device=device
        )
        calls[name] = call(strategy)
    return _measured(TRAIN, case, calls, _from_record, patience)


def _devices() -> dict[str, str]:
    """Return the devices of our paths, of those that are installed."""
    found = {}
    for name in OURS:
        try:
            found[name] = device_of(name)
        except AbsentError:
            continue
    return found


def _measured(
    task: str,
    case: Case,
    calls: dict[str, Call],
    flatten: Callable[[Any], NDArray[Any]],
    patience: Patience,
) -> list[Result]:
    def inspect(name: str, result: Any) -> Any:
        return case.sample(flatten(result))

    samples = in_turns(calls, patience, inspect, must=calls)
    blank = partial(Result, task=task, n=case.n, d=case.d, layers=len(case.sizes), threads=1)
    return [
        blank(
            name=name,
            cpu=sample.cpu,
            wall=sample.wall,
            extra=sample.extra,
            same=agree(sample.answer, samples[NUMPY].answer),
        )
        for name, sample in samples.items()
    ]


def _from_parameters(parameters: Parameters) -> NDArray[Any]:
    return np.concatenate([np.load(BytesIO(tensor)).ravel() for tensor in parameters.tensors])


def _from_record(record: ArrayRecord) -> NDArray[Any]:
    return np.concatenate([array.ravel() for array in record.to_numpy_ndarrays()])


class _Proxy(ClientProxy):
    """A client that has answered already."""

    def _asked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("this client's reply is there already")

    get_properties = get_parameters = fit = evaluate = reconnect = _asked
