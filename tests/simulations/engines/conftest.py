import os
import time
from pathlib import Path

import pytest


def processes():
    """Yield (pid, parent's pid, command) of every process that runs."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if state != "Z":
            yield int(folder.name), int(parent), command


def of_ray(mine):
    """Return the processes below this one that belong to Ray, as {pid: (parent's pid, command)}."""
    known = {pid: (parent, command) for pid, parent, command in processes()}

    def is_below(pid):
        while pid in known:
            pid = known[pid][0]
            if pid == mine:
                return True
        return False

    return {
        pid: (parent, command)
        for pid, (parent, command) in known.items()
        if is_below(pid) and ("ray::" in command or "/ray/" in command)
    }


@pytest.fixture
def two_nodes(tmp_path, monkeypatch):
    """Two Ray nodes with a CPU each, in a folder of their own; nothing of them may be left."""
    from ray.cluster_utils import Cluster

    (tmp_path / "cluster").mkdir()
    monkeypatch.chdir(tmp_path / "cluster")
    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.chdir(tmp_path)
    yield cluster
    cluster.shutdown()
    deadline = time.monotonic() + 20
    while of_ray(os.getpid()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert of_ray(os.getpid()) == {}
