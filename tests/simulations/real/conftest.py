import pytest

from simulations.run.config import RunConfig


@pytest.fixture(scope="session")
def config():
    """A function that makes the config of a small real run, with keys as on the command line."""

    def make(run_dir, **overrides):
        keys = {name.replace("_", "-"): value for name, value in overrides.items()}
        base = {"num-clients": 7, "num-server-rounds": 1, "roles": "node", "run-dir": str(run_dir)}
        return RunConfig.from_config({**base, **keys})

    return make
