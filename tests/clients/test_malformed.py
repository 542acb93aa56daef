import pytest
from flwr.app import RecordDict

from clients import MalformedClient, Settings, build_client, role_of
from flwr_krum.attacks import FAULTS
from flwr_krum.serverapp.records import to_record


def test_a_node_becomes_malformed_by_its_config():
    settings = Settings()
    assert role_of(settings, 0, {"role": "malformed"}) == "malformed"
    assert isinstance(build_client(settings, 0, "malformed"), MalformedClient)


def test_it_trains_honestly_and_spoils_the_reply_on_the_way_out():
    import numpy as np

    from clients import build_model, parameters_of

    settings = Settings(fault="one-nan")
    parameters = list(parameters_of(build_model("spambase", "mlp", 0)).values())
    sent = [
        build_client(settings, 3, role).fit(parameters, {"server-round": 1})
        for role in ("honest", "malformed")
    ]
    for honest, malformed in zip(sent[0][0], sent[1][0], strict=True):
        np.testing.assert_array_equal(honest, malformed)
    content = RecordDict({"arrays": to_record({"w": np.ones(3, np.float32)})})
    build_client(settings, 3, "honest").spoil(content)
    assert np.isfinite(content["arrays"]["w"].numpy()).all()
    build_client(settings, 3, "malformed").spoil(content)
    assert np.isnan(content["arrays"]["w"].numpy()).sum() == 1


def test_an_unknown_fault_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match="fault is 'gone', expected 'nan' or 'one-nan'"):
        Settings(fault="gone")
    assert all(Settings(fault=fault).fault == fault for fault in FAULTS)
