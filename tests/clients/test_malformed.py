import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common import FitIns, ndarrays_to_parameters
from flwr.compat.common.recorddict_compat import fitins_to_recorddict

from clients import Settings, build_client, build_model, parameters_of, role_of
from clients.client_app import app
from flwr_krum.attacks import FAULTS, Malformed

RUN = {"num-clients": 6, "f": 2, "attack": "malformed", "fault": "nan"}

pytestmark = pytest.mark.usefixtures("task_identity")


@pytest.fixture(scope="module")
def weights():
    return parameters_of(build_model("spambase", "mlp", 0))


def ask(weights, partition_id=0, kind="train", api="message", run=RUN, **node_config):
    """Return the content of a node's reply."""
    if api == "message":
        arrays = ArrayRecord({key: Array(value) for key, value in weights.items()})
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
    else:
        ins = FitIns(ndarrays_to_parameters(list(weights.values())), {"server-round": 1})
        content = fitins_to_recorddict(ins, keep_input=True)
    node = {"partition-id": partition_id, "num-partitions": 6, **node_config}
    context = Context(1, 1, node, RecordDict(), dict(run))
    return app(Message(content, dst_node_id=1, message_type=kind), context).content


def test_the_last_f_clients_of_a_malformed_attack_are_malformed():
    settings = Settings.from_config(RUN)
    assert [role_of(settings, i, {}) for i in range(6)] == ["honest"] * 4 + ["malformed"] * 2
    assert build_client(settings, 5, "malformed").attack == Malformed("nan")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_malformed_client_sends_an_honest_reply_with_the_fault_in_it(weights, api, fault):
    run = {**RUN, "fault": fault}
    expected = ask(weights, 5, api=api, run=run, role="honest")
    FAULTS[fault](expected)
    for reply in (
        ask(weights, 5, api=api, run=run),
        ask(weights, 5, api=api, run={**run, "attack": "none"}, role="malformed"),
    ):
        assert reply.object_id == expected.object_id


def test_the_node_config_turns_a_node_malformed_and_another_honest(weights):
    hostile = ask(weights, 0, role="malformed")["arrays"]
    assert all(np.isnan(array).all() for array in hostile.to_numpy_ndarrays())
    honest = ask(weights, 5, role="honest")["arrays"]
    assert all(np.isfinite(array).all() for array in honest.to_numpy_ndarrays())


def test_a_malformed_client_evaluates_honestly(weights):
    honest, malformed = (ask(weights, 5, "evaluate", role=role) for role in ("honest", "malformed"))
    assert honest.object_id == malformed.object_id


def test_an_honest_client_leaves_its_reply_as_it_is(weights):
    content = RecordDict({"config": ConfigRecord({"a": 1})})
    before = content.object_id
    kept = build_client(Settings.from_config(RUN), 0, "honest").spoiled(content, 1)
    assert kept is content
    assert content.object_id == before


def test_an_unknown_fault_is_named():
    with pytest.raises(ValueError, match=r"fault is 'nnan', expected"):
        Settings.from_config({**RUN, "fault": "nnan"})
