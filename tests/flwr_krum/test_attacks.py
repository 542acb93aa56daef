import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

from flwr_krum.attacks import FAULTS, malforming_mod


def context():
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})


def honest_app(mods):
    app = ClientApp(mods=mods)

    @app.train()
    def train(message, context):
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        arrays = ArrayRecord([np.ones((2, 3), np.float32), np.zeros(3, np.float32)])
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def ask(app, kind="train", content=None):
    message = Message(content or RecordDict(), dst_node_id=2, message_type=kind)
    return app(message, context()).content


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_changes_the_training_reply_of_a_users_own_app(fault):
    plain, hostile = ask(honest_app([])), ask(honest_app([malforming_mod(fault)]))
    assert plain.object_id != hostile.object_id


def test_other_replies_are_left_alone():
    content = ask(honest_app([malforming_mod("nan")]), "evaluate")
    assert dict(content["metrics"]) == {"num-examples": 10, "loss": 0.5}


def test_a_numpy_client_of_the_older_api_is_malformed_as_well():
    from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common.recorddict_compat import fitins_to_recorddict, recorddict_to_fitres

    class Echo(NumPyClient):
        def fit(self, parameters, config):
            return parameters, 10, {}

    app = ClientApp(lambda context: Echo().to_client(), mods=[malforming_mod("one-nan")])
    ins = FitIns(ndarrays_to_parameters([np.ones((2, 2)), np.ones(3)]), {})
    result = recorddict_to_fitres(ask(app, content=fitins_to_recorddict(ins, True)), True)
    first, second = parameters_to_ndarrays(result.parameters)
    assert np.isnan(first).sum() == 1
    assert np.isfinite(second).all()


def test_an_unknown_fault_is_named():
    with pytest.raises(ValueError, match="fault is 'nonsense', expected one of nan, one-nan"):
        malforming_mod("nonsense")
