"""Whole runs through each API, as Flower itself runs them, on grids that a test scripts."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status, ndarrays_to_parameters
from flwr.compat.common.recorddict_compat import evaluateres_to_recorddict, fitres_to_recorddict
from flwr.server import Server, ServerAppComponents, ServerConfig, SimpleClientManager
from flwr.serverapp import ServerApp

import flwr_krum.server.strategy as fit
import flwr_krum.serverapp.strategy as messages
from tests.flwr_krum.boundary.grids import ScriptedGrid

NODES = tuple(range(10, 20))
MODEL = [np.zeros(3, np.float32)]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def vector(node):
    return np.full(3, 1.0 + 0.001 * node, np.float32)


class Messages:
    """A run through `aggregate_train`."""

    @staticmethod
    def answer(message):
        if message.metadata.message_type == "evaluate":
            content = RecordDict({"metrics": MetricRecord({"loss": 0.5, "num-examples": 1})})
            return Message(content, reply_to=message)
        arrays = ArrayRecord({"0": Array(vector(message.metadata.dst_node_id))})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    @staticmethod
    def name(node):
        return node

    @staticmethod
    def run(grid, rounds=1, timeout=0.6, f=2, workers=None, **options):
        strategy = messages.MultiKrum(num_malicious_nodes=f, **options)
        strategy.start(grid, ArrayRecord(MODEL), num_rounds=rounds, timeout=timeout)
        return strategy


class Fit:
    """A run through `aggregate_fit`, as Flower itself runs it."""

    @staticmethod
    def answer(message):
        if message.metadata.message_type == "evaluate":
            result = EvaluateRes(Status(Code.OK, ""), 0.5, 1, {})
            return Message(evaluateres_to_recorddict(result), reply_to=message)
        tensors = [npy(vector(message.metadata.dst_node_id))]
        result = FitRes(Status(Code.OK, ""), Parameters(tensors, "numpy.ndarray"), 1, {})
        return Message(fitres_to_recorddict(result, keep_input=True), reply_to=message)

    @staticmethod
    def name(node):
        return str(node)

    @staticmethod
    def run(grid, rounds=1, timeout=0.6, f=2, workers=None, **options):
        strategy = fit.MultiKrum(
            num_malicious_clients=f, initial_parameters=ndarrays_to_parameters(MODEL), **options
        )
        server = Server(client_manager=SimpleClientManager(), strategy=strategy)
        server.set_max_workers(workers)
        config = ServerConfig(num_rounds=rounds, round_timeout=timeout)
        components = ServerAppComponents(server=server, config=config)
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        ServerApp(server_fn=lambda _: components)(grid, context)
        return strategy


@pytest.fixture(params=[Messages, Fit], ids=["serverapp", "server"])
def api(request):
    """Each of Flower's APIs."""
    return request.param


@pytest.fixture
def play(api):
    """Run a federation in which some nodes follow a script.

    Returns the strategy, the seconds that it took, and the grid.
    """
    grids = []

    def play(scripts, **options):
        grids.append(ScriptedGrid(NODES, api.answer, scripts))
        options = {"fraction_evaluate": 0.0} | options
        begin = time.monotonic()
        strategy = api.run(grids[-1], **options)
        return strategy, time.monotonic() - begin, grids[-1]

    yield play
    for grid in grids:
        grid.ended.set()
