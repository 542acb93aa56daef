import re

import pytest

from clients import Adversary, HonestClient, Settings, build_client, partition_of, role_of
from clients.roles import client_of, settings_of
from flwr_krum.attacks import Gaussian, Omniscient, SignFlip


@pytest.mark.parametrize("attack", ["gaussian", "omniscient"])
def test_the_last_f_partitions_attack(attack):
    settings = Settings(num_clients=10, f=3, attack=attack)
    assert [role_of(settings, i, {}) for i in range(10)] == ["honest"] * 7 + [attack] * 3


def test_declared_byzantine_clients_are_honest_when_there_is_no_attack():
    settings = Settings(num_clients=10, f=3)
    assert {role_of(settings, i, {}) for i in range(10)} == {"honest"}


def test_the_node_configs_role_wins():
    settings = Settings(num_clients=10, f=3, attack="gaussian")
    assert role_of(settings, 0, {"role": "omniscient"}) == "omniscient"
    assert role_of(settings, 9, {"role": "honest"}) == "honest"


def test_a_real_node_without_a_role_is_honest_whatever_the_run_config_says():
    settings = Settings(num_clients=10, f=3, attack="gaussian", roles="node")
    assert {role_of(settings, i, {}) for i in range(10)} == {"honest"}
    assert role_of(settings, 0, {"role": "gaussian"}) == "gaussian"


def test_a_red_team_node_may_have_a_fault_of_its_own():
    settings = Settings(attack="malformed", fault="inf")
    assert settings_of(settings, {"fault": "swapped-arrays"}).fault == "swapped-arrays"
    assert settings_of(settings, {"role": "malformed"}) == settings


@pytest.mark.parametrize("fault", ["nun", 3])
def test_an_illegal_fault_of_a_node_is_named_with_the_legal_ones(fault):
    message = f"the node config's fault is {fault!r}, expected 'nan' or "
    with pytest.raises(ValueError, match=re.escape(message)):
        settings_of(Settings(), {"fault": fault})


@pytest.mark.parametrize("role", ["malicious", 3, "none", "gaussian(variance=-1)"])
def test_an_illegal_role_is_named_with_the_legal_ones(role):
    message = f"the node config's role is {role!r}, expected 'honest' or an attack: "
    with pytest.raises(ValueError, match=re.escape(message)):
        role_of(Settings(), 0, {"role": role})


def test_the_settings_of_before_are_the_arguments_that_a_text_leaves_open():
    settings = Settings(gaussian_variance=3.0, omniscient_factor=2.0, omniscient_examples=5)
    assert settings.build_attack("gaussian") == Gaussian(3.0)
    assert settings.build_attack("omniscient") == Omniscient(2.0, 5)
    assert settings.build_attack("omniscient(factor=7)") == Omniscient(7, 5)


@pytest.mark.parametrize(
    ("role", "attack"),
    [
        ("honest", None),
        ("gaussian", Gaussian()),
        ("omniscient(factor=2)", Omniscient(2)),
        ("sign-flip", SignFlip()),
    ],
)
def test_a_role_is_played_by_its_client_with_the_partitions_shard(role, attack):
    client = build_client(Settings(num_clients=30), 7, role)
    assert type(client) is (Adversary if attack else HonestClient)
    assert getattr(client, "attack", None) == attack
    assert client.partition_id == 7
    assert (client.shard == build_client(Settings(num_clients=30), 7, "honest").shard).all()


def test_the_partition_is_read_from_the_node_config():
    settings = Settings(num_clients=5)
    assert partition_of(settings, {"partition-id": 3, "num-partitions": 5}) == 3
    assert partition_of(settings, {"partition-id": 0}) == 0


@pytest.mark.parametrize("found", [None, -1, 5, "2", 1.0])
def test_a_missing_or_illegal_partition_is_refused_with_the_way_out(found):
    node_config = {} if found is None else {"partition-id": found}
    message = f"partition-id is {found!r}, expected an integer from 0 to 4; start a SuperNode with"
    with pytest.raises(ValueError, match=re.escape(message)):
        partition_of(Settings(num_clients=5), node_config)


def test_a_federation_of_another_size_than_the_run_is_refused():
    with pytest.raises(
        ValueError, match=r"num-partitions is 7 but num-clients is 5.*num-clients=7"
    ):
        partition_of(Settings(num_clients=5), {"partition-id": 0, "num-partitions": 7})


@pytest.mark.parametrize("attack", ["gaussian", "omniscient", "sign-flip(of=mean)"])
def test_a_byzantine_client_is_honest_once_its_attack_is_over(
    make_task, initial_parameters, attack
):
    settings, task = Settings(num_clients=4, f=1, attack_rounds=2), make_task(40)
    w = initial_parameters(settings)
    for server_round, over in ((1, False), (2, False), (3, True), (4, True)):
        sent, expected = (
            client_of(settings, task, 3, role).fit(w, {"server-round": server_round})[0]
            for role in (attack, "honest")
        )
        same = all((a == b).all() for a, b in zip(sent, expected, strict=True))
        assert same == over
