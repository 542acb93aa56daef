"""Who plays whom: the role of a node, and the client that plays it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clients.adversary import Adversary
from clients.honest import HonestClient
from clients.memory import Memory
from clients.settings import Settings
from clients.tasks import Task, load_task

HONEST = "honest"
"""The role of a client that does what it is asked to; every other role is an attack."""


def partition_of(settings: Settings, node_config: Mapping[str, Any]) -> int:
    """Return which shard of the training data is a node's own.

    Parameters
    ----------
    settings : Settings
        Gives the number of shards, ``num_clients``.
    node_config : Mapping[str, Any]
        Holds "partition-id" and, where the engine tells, "num-partitions".

    Raises
    ------
    ValueError
        If the id is missing or out of range, or the engine has another number of partitions than
        the run has clients: some shards would then have no client, or the attackers no node.
    """
    n = settings.num_clients
    num_partitions = node_config.get("num-partitions", n)
    if num_partitions != n:
        raise ValueError(
            f"the node config's num-partitions is {num_partitions!r} but num-clients is {n}, "
            f"expected the same: set num-clients={num_partitions}, or start {n} nodes"
        )
    partition_id = node_config.get("partition-id")
    if not isinstance(partition_id, int) or not 0 <= partition_id < n:
        raise ValueError(
            f"the node config's partition-id is {partition_id!r}, expected an integer from 0 to "
            f'{n - 1}; start a SuperNode with --node-config "partition-id=0 num-partitions={n}"'
        )
    return partition_id


def role_of(settings: Settings, partition_id: int, node_config: Mapping[str, Any]) -> str:
    """Return the role of a node: `HONEST`, or an attack as it is written.

    A "role" in the node config wins: that is how a red-team node joins a real federation. Without
    one a node is honest, unless ``roles`` is "partition": then the last f of the ``num_clients``
    partitions attack as the run config says.

    Parameters
    ----------
    settings : Settings
        Gives n, f, the attack, and where roles come from.
    partition_id : int
        As `partition_of` returns it.
    node_config : Mapping[str, Any]
        May hold "role".

    Raises
    ------
    ValueError
        If the node config's role is none.
    """
    if "role" in node_config:
        role = node_config["role"]
        try:
            if not isinstance(role, str):
                raise ValueError("it is no text")
            if role != HONEST and settings.build_attack(role) is None:
                raise ValueError("it is no attack")
        except ValueError as error:
            raise ValueError(
                f"the node config's role is {role!r}, expected {HONEST!r} or an attack: {error}"
            ) from error
        return str(role)
    last = partition_id >= settings.num_clients - settings.f
    byzantine = last and settings.roles == "partition" and settings.attack != "none"
    return settings.attack if byzantine else HONEST


def settings_of(settings: Settings, node_config: Mapping[str, Any]) -> Settings:
    """Return the settings of one node: those of the run, with the fault of its own if it has one.

    Parameters
    ----------
    settings : Settings
        The run's.
    node_config : Mapping[str, Any]
        May hold "fault": each red-team node of a federation may break its replies differently.

    Raises
    ------
    ValueError
        If there is no such fault.
    """
    if "fault" not in node_config:
        return settings
    try:
        return replace(settings, fault=node_config["fault"])
    except ValueError as error:
        raise ValueError(f"the node config's {error}") from None


def build_client(
    settings: Settings, partition_id: int, role: str, memory: Memory | None = None
) -> HonestClient:
    """Return the client that plays a role with a shard of the task's training data.

    Parameters
    ----------
    settings : Settings
        The learning problem; its data are loaded on first use.
    partition_id : int
        The client's shard, 0 <= partition_id < num_clients.
    role : str
        As `role_of` returns it.
    memory : mutable mapping of arrays, optional
        What it noted in the rounds before.
    """
    return client_of(settings, load_task(settings), partition_id, role, memory)


def client_of(
    settings: Settings, task: Task, partition_id: int, role: str, memory: Memory | None = None
) -> HonestClient:
    """Return the client that plays a role with a shard of the training data of a given task."""
    attack = None if role == HONEST else settings.build_attack(role)
    if attack is None:
        return HonestClient(settings, task, partition_id, memory)
    return Adversary(settings, task, partition_id, attack, memory)
