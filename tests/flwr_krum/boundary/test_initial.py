"""No client gives the federation away by the model that it begins with."""

import io
import time

import numpy as np
import pytest
from flwr.common import (
    Code,
    GetParametersRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import Server, SimpleClientManager

from flwr_krum.boundary import initial
from flwr_krum.boundary.initial import InitialModelError
from flwr_krum.boundary.npy import UndecodableError
from flwr_krum.server.strategy import Krum, MultiKrum
from tests.flwr_krum.federations import FakeProxy

SOUND = ndarrays_to_parameters([np.full(3, 0.5, np.float32), np.array(7)])

UNSOUND = {
    "NaN": ([np.array([0.0, np.nan], np.float32)], "array '0': holds NaN"),
    "Inf": ([np.array([0.0, -np.inf], np.float32)], "array '0': holds Inf"),
    "whole numbers": ([np.zeros(3, np.int64)], "no array of it has float numbers"),
    "no numbers": ([np.zeros(0, np.float32)], "no array of it has float numbers"),
    "nothing": ([], "no array of it has float numbers"),
    "3e38": (
        [np.ones(2), np.full(2, 3e38, np.float32)],
        "array '1': holds 3e\\+38, ",
    ),
    "-1e7": ([np.array([-1e7])], "array '0': holds 1e\\+07, expected at most 1e\\+06"),
    "garbage": ([b"garbage"], "global model, array '0': "),
    "objects": ([np.array([{}], dtype=object)], "global model, array '0': "),
    "text": ([np.array(["x"])], "global model, array '0': "),
    "a pickle": ("pickle", "serialized as 'pickle', expected 'numpy.ndarray'"),
    "a refusal": (Status(Code.GET_PARAMETERS_NOT_IMPLEMENTED, "no\nsuch"), "it has none: no.nsuch"),
    "an exception": (RuntimeError("crashed"), "crashed"),
    "no answer": (None, "no answer in time"),
}


def tensor(array):
    if isinstance(array, bytes):
        return array
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def answer_of(what):
    """Return what a client answers: arrays, bytes, another serialization, a status."""
    status = what if isinstance(what, Status) else Status(Code.OK, "")
    if isinstance(what, str):
        return GetParametersRes(status, Parameters([tensor(np.zeros(1))], what))
    arrays = what if isinstance(what, list) else []
    return GetParametersRes(status, Parameters([tensor(a) for a in arrays], "numpy.ndarray"))


@pytest.fixture
def begin(monkeypatch):
    """Let Flower's server find its initial model among clients, by client id."""
    monkeypatch.setattr(initial, "PATIENCE", 0.2)

    class Client(FakeProxy):
        def get_parameters(self, ins, timeout, group_id):
            assert timeout == 0.2
            if self.what is None:
                time.sleep(0.6)
            if isinstance(self.what, Exception):
                raise self.what
            if isinstance(self.what, Parameters):
                return GetParametersRes(Status(Code.OK, ""), self.what)
            return answer_of(self.what)

    def begin(strategy, *clients):
        manager = SimpleClientManager()
        for i, what in enumerate(clients, 1):
            client = Client(str(i))
            client.what = what
            manager.register(client)
        server = Server(client_manager=manager, strategy=strategy)
        server.fit(num_rounds=0, timeout=None)
        return server.parameters

    return begin


@pytest.mark.parametrize("cls", [Krum, MultiKrum])
def test_without_an_initial_model_a_run_does_not_start_and_the_argument_is_named(begin, cls):
    with pytest.raises(ValueError, match=r"^initial_parameters is None: .*trust_initial_client"):
        begin(cls(num_malicious_clients=1), SOUND)


def test_the_operators_model_is_taken_and_no_client_asked(begin):
    strategy = Krum(num_malicious_clients=1, initial_parameters=SOUND)
    assert begin(strategy, RuntimeError("asked")) is SOUND


def test_a_sound_model_of_a_client_is_taken_where_that_is_asked_for_by_name(begin):
    found = begin(Krum(num_malicious_clients=1, trust_initial_client=True), SOUND)
    assert found is SOUND


def test_clients_go_by_the_operators_names_in_what_is_said_of_their_models(begin, caplog):
    strategy = Krum(
        num_malicious_clients=1,
        trust_initial_client=True,
        client_id=lambda client: f"site {client.cid}",
    )
    with pytest.raises(InitialModelError, match=r"site [12]: crashed; site [12]: crashed"):
        begin(strategy, RuntimeError("crashed"), RuntimeError("crashed"))
    assert "initial model of client site 1 refused: crashed" in caplog.text
    begin(strategy, SOUND)
    assert "initial model: that of client site 1" in caplog.text


@pytest.mark.parametrize("case", UNSOUND)
def test_an_unsound_model_of_a_client_is_refused_with_a_sentence(begin, case):
    what, reason = UNSOUND[case]
    strategy = Krum(num_malicious_clients=1, trust_initial_client=True)
    with pytest.raises(InitialModelError, match=reason) as refusal:
        begin(strategy, what)
    text = str(refusal.value)
    assert text.startswith("no client has an initial model to begin with: 1: ")
    assert text.isprintable()


@pytest.mark.parametrize("case", UNSOUND)
def test_another_client_is_asked_where_one_has_no_sound_model(begin, case):
    what, _ = UNSOUND[case]
    strategy = Krum(num_malicious_clients=1, trust_initial_client=True)
    found = begin(strategy, what, what, SOUND)
    assert parameters_to_ndarrays(found)[0].tolist() == [0.5] * 3


@pytest.mark.parametrize("tensors", [[b"garbage"], [tensor(np.array([{}], dtype=object))]])
def test_garbage_of_the_operator_is_a_sentence_before_anybody_evaluates_it(begin, tensors):
    strategy = Krum(
        num_malicious_clients=1,
        initial_parameters=Parameters(tensors, "numpy.ndarray"),
        evaluate_fn=lambda *_: pytest.fail("evaluated"),
    )
    with pytest.raises(UndecodableError, match=r"^global model, array '0': "):
        begin(strategy, SOUND)
