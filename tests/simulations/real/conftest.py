import pytest

from simulations.real.command import node_configs
from simulations.real.federation import Federation
from simulations.run.config import RunConfig

collect_ignore = ["apps"]  # modules of apps, which find each other only there


@pytest.fixture(scope="session")
def config():
    """A function that makes the config of a small real run, with keys as on the command line."""

    def make(run_dir, **overrides):
        keys = {name.replace("_", "-"): value for name, value in overrides.items()}
        base = {"num-clients": 7, "num-server-rounds": 1, "roles": "node", "run-dir": str(run_dir)}
        return RunConfig.from_config({**base, **keys})

    return make


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """A folder for the runs of a module."""
    return tmp_path_factory.mktemp(request.module.__name__.rpartition("test_")[2])


@pytest.fixture(scope="module")
def federation(folder, config):
    """A federation of seven honest nodes, for the tests of a module."""
    with Federation(folder / "federation", node_configs(config(folder))) as running:
        running.wait_until_connected()
        yield running
